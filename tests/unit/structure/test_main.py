"""The command: what it prints, and when it fails."""

from pathlib import Path

import pytest

from structure.__main__ import main
from structure.bounds import BOUNDS, broken
from structure.tables import Table
from unit.structure.conftest import Write

RUNNER = '"""A runner."""\n\nclass JobRunner:\n    """Runs."""\n\n    def accept(self):\n        """Takes."""\n'


def run(tmp_path: Path, *options: str) -> int:
    return main(["--root", str(tmp_path), *options])


def test_a_tree_within_all_bounds(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write({"a/src/p/runner.py": RUNNER})
    assert run(tmp_path, "--check") == 0
    printed = capsys.readouterr().out
    assert all(f"| {name}" in printed for name in BOUNDS)
    assert "| p.runner:JobRunner.accept |" in printed


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a/src/p/m.py", "x = f()  # type: ignore\n"),
        ("a/src/p/m.py", "from p import runner\n"),
        ("a/src/p/m.py", "".join(f"x{number}: Any\n" for number in range(121))),
        ("a/src/p/m.py", "".join(f"class C{number}:\n" + "    x = 1\n" * 150 for number in range(6))),
    ],
)
def test_a_broken_bound_fails_the_check_only(write: Write, tmp_path: Path, name: str, text: str) -> None:
    write({"a/src/p/runner.py": f"from p import m\n{RUNNER}", name: text})
    assert run(tmp_path) == 0
    assert run(tmp_path, "--check") == 1


def test_without_the_entry_the_check_fails(write: Write, tmp_path: Path) -> None:
    write({"a/src/p/m.py": '"""Nothing."""\n'})
    assert run(tmp_path) == 0
    assert run(tmp_path, "--check") == 1


def test_the_path_alone(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write({"a/src/p/runner.py": RUNNER})
    assert run(tmp_path, "--path", "--entry", "p.runner:JobRunner.accept") == 0
    assert capsys.readouterr().out == "p.runner:JobRunner.accept\n"
    with pytest.raises(SystemExit):
        run(tmp_path, "--path", "--entry", "JobRunner.stop")


def test_a_figure_may_reach_its_bound() -> None:
    assert broken(BOUNDS) == []
    assert broken({name: bound + 1 for name, bound in BOUNDS.items()}) == list(BOUNDS)
    assert broken({}) == list(BOUNDS)


def test_tables_are_aligned() -> None:
    assert Table("T", ("name", "n"), [("long name", 5), ("x", 12)], "Note.").text() == (
        "### T\n\nNote.\n\n| name      |  n |\n| --------- | -: |\n| long name |  5 |\n| x         | 12 |\n"
    )
    assert Table("T", ("name",), []).text() == "### T\n\nNone.\n"
