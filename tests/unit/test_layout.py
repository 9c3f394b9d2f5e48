"""The unit tests mirror the source, every folder stays small, and `make test` runs every test once."""

from collections import Counter
from pathlib import Path

import pytest

from side_by_side import PARTS

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SOURCES = {
    "schemas": "schemas/src/edge_schemas",
    "service": "schemas/src/edge_service",
    "broker": "schemas/src/edge_broker",
    "upkeep": "schemas/src/edge_upkeep",
    "ui": "schemas/src/edge_ui",
    "relay": "relay/src/edge_relay",
    "bridge": "bridge/src/edge_bridge",
    "worker": "edge_worker/src/edge_worker",
    "compose": "compose",
    "local": "compose/local",
    "docs": "docs",
    "structure": "tests/structure",
}
"""What each folder of tests/unit tests."""
MOST_MODULES = 12


def folders(top: Path) -> list[Path]:
    """All folders below this one that hold Python files."""
    return sorted({module.parent for module in top.rglob("*.py") if module.parent != top})


@pytest.mark.parametrize("folder", folders(TESTS / "unit"), ids=lambda folder: str(folder.relative_to(TESTS)))
def test_each_folder_of_unit_tests_is_a_room_of_the_source(folder: Path) -> None:
    package, *room = folder.relative_to(TESTS / "unit").parts
    assert ROOT.joinpath(SOURCES[package], *room).is_dir()


@pytest.mark.parametrize("top", ["unit", "integration", "support"])
def test_no_folder_is_crowded(top: str) -> None:
    sizes = {str(folder.relative_to(TESTS)): len(list(folder.glob("*.py"))) for folder in folders(TESTS / top)}
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_test_runs_in_exactly_one_part() -> None:
    """But for those in containers, which have a target of their own."""
    chosen: Counter[Path] = Counter()
    for part in PARTS:
        ignored = {ROOT / option.removeprefix("--ignore=") for option in part if option.startswith("--ignore=")}
        for name in part:
            if not name.startswith("-"):
                path = ROOT / name
                files = [path] if path.is_file() else list(path.rglob("test_*.py"))
                chosen.update(file for file in files if not ignored & {file, *file.parents})
    every = set(TESTS.rglob("test_*.py")) - set((TESTS / "compose").rglob("test_*.py"))
    assert {file: chosen[file] for file in every if chosen[file] != 1} == {}
