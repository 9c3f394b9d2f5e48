"""What becomes of the folders that an earlier run of the agent left."""

from pathlib import Path

import pytest

from edge_worker.leftovers import take_up
from edge_worker.state import StateDir
from support.jobs import make_job


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


@pytest.mark.parametrize("name", ["job.json", "receipt", "final_state"])
def test_a_folder_that_cannot_be_read_now_is_left_for_the_next_start(state: StateDir, name: str) -> None:
    unreadable, other = make_job(), make_job()
    for job in (unreadable, other):
        state.job_dir(job.id).create(job, "receipt")
        state.job_dir(job.id).put_final_state("success")
    folder = state.job_dir(unreadable.id).path
    (folder / name).rename(folder / "kept")
    # A folder in a file's place: what even root cannot read as a file.
    (folder / name).mkdir()
    assert [held.id for held in take_up(state)] == [other.id]
    (folder / name).rmdir()
    (folder / "kept").rename(folder / name)
    found = {held.id: held for held in take_up(state)}
    assert found.keys() == {unreadable.id, other.id}
    assert (found[unreadable.id].receipt, found[unreadable.id].final_state) == ("receipt", "success")


@pytest.mark.parametrize("content", [None, b"", b'{"id": 1}'])
def test_a_folder_without_a_job_is_put_aside(state: StateDir, content: bytes | None) -> None:
    folder = state.job_dir(make_job().id).path
    folder.mkdir()
    if content is not None:
        (folder / "job.json").write_bytes(content)
    assert list(take_up(state)) == []
    assert not folder.exists()
    assert (state.path / "ended" / folder.name).is_dir()
