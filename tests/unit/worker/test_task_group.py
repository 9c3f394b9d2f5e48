"""Who may enter the state folder: nobody else, or the members of `task_group`."""

import grp
import os
import stat
from pathlib import Path

import pytest

from edge_worker.settings import SettingsError
from edge_worker.state.state import StateDir


@pytest.fixture
def group() -> str:
    """A group that this user may give folders to: of root any, of others one of their own."""
    return grp.getgrgid(max([os.getegid(), *os.getgroups()])).gr_name


def _access(folder: Path) -> tuple[str, str]:
    found = folder.stat()
    return f"{stat.S_IMODE(found.st_mode):04o}", grp.getgrgid(found.st_gid).gr_name


def test_the_group_may_enter_and_not_list(tmp_path: Path, group: str) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    assert _access(state.path)[0] == "0700"
    version = state.bundles / "versions" / "digest"
    version.mkdir(mode=0o710, parents=True)
    state.prepare(group)
    for folder in (state.path, state.bundles, state.bundles / "versions", version):
        assert _access(folder) == ("2710", group)
    later = state.bundles / "versions" / "later"
    later.mkdir(mode=0o710)
    assert _access(later) == ("2710", group)
    assert stat.S_IMODE((state.path / "jobs").stat().st_mode) & 0o077 == 0


def test_a_state_folder_is_closed_again_without_the_group(tmp_path: Path, group: str) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare(group)
    state.prepare()
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_a_missing_group_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task_group 'no-such-group': there is no such group .* groupadd"):
        StateDir(tmp_path / "state").prepare("no-such-group")
