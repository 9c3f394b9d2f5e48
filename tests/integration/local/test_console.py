"""The folder of a run belongs to one run at a time."""

from pathlib import Path

import pytest

from local.demo.console import make_empty


def test_a_second_run_does_not_take_the_folder_of_one_that_runs(tmp_path: Path) -> None:
    directory = make_empty(tmp_path / "run")
    (directory / "state").touch()
    with pytest.raises(SystemExit, match="another run still uses"):
        make_empty(directory)
    assert (directory / "state").exists()


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SystemExit, match="not from an earlier run"):
        make_empty(tmp_path)
    assert (tmp_path / "mine").exists()


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".edge-relay-run").touch()
    (tmp_path / "state").touch()
    assert not (make_empty(tmp_path) / "state").exists()
