"""Which programs a producer may name, whatever it calls them."""

from pathlib import Path

import pytest

from edge_schemas.wire.jobs import CommandWork
from edge_worker.host_client.command_rules import CommandRules


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The owner's programs, and a folder in which anybody can write."""
    for name in ("bin/backup", "open/other"):
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "open/backup").symlink_to(tmp_path / "bin/backup")
    (tmp_path / "open/alias").symlink_to(tmp_path / "bin/backup")
    return tmp_path


def rules(folder: Path, *programs: str) -> CommandRules:
    return CommandRules(programs, (), str(folder / "bin"))


def test_a_program_is_executed_by_the_path_that_its_owner_means(folder: Path) -> None:
    """A link of the producer to an allowed program may lead elsewhere by the time of the start."""
    for one in (rules(folder, "backup"), rules(folder, "other", str(folder / "bin/backup"))):
        for named in ("backup", str(folder / "bin/backup"), str(folder / "open/backup")):
            assert one.find(named) == str(folder / "bin/backup")
            assert one.forbidden(CommandWork(argv=(named,))) is None


@pytest.mark.parametrize(
    "named",
    [
        "open/backup",
        "./backup",
        "../bin/backup",
        "{folder}/open/alias",
        "{folder}/open/other",
        "{folder}/bin/../open/other",
        "{folder}/bin",
        "other",
        "",
        "backup\0",
        "/proc/self/exe",
    ],
)
def test_another_name_is_not_allowed(folder: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path neither, also where it leads to an allowed program from the agent's own folder."""
    monkeypatch.chdir(folder / "bin")
    named = named.format(folder=folder)
    one = rules(folder, "backup")
    assert one.find(named) is None
    assert "its owner has not allowed it" in str(one.forbidden(CommandWork(argv=(named,))))


def test_a_link_that_was_changed_after_the_check_is_not_followed(folder: Path) -> None:
    one, named = rules(folder, "backup"), folder / "open/backup"
    assert one.forbidden(CommandWork(argv=(str(named),))) is None
    named.unlink()
    named.symlink_to(folder / "open/other")
    assert one.find(str(named)) is None


def test_where_any_program_is_allowed_one_that_is_not_found_is_named(folder: Path) -> None:
    assert rules(folder, "*").find("nothing-here") == "nothing-here"
