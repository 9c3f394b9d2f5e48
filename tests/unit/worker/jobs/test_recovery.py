"""What becomes of the folders that an earlier run of the agent left."""

from pathlib import Path

import pytest

from edge_worker.jobs.recovery import recover
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files
from support.relay.jobs import make_job


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


@pytest.mark.parametrize("name", ["job.json", "receipt", "final_state"])
def test_a_folder_that_cannot_be_read_now_is_left_for_later(state: StateDir, name: str) -> None:
    job = make_job()
    job_dir = state.job_dir(job.id)
    job_dir.create(job, "receipt")
    job_dir.put_final_state("success")
    folder = job_dir.path
    (folder / name).rename(folder / "kept")
    # A folder in a file's place: what even root cannot read as a file.
    (folder / name).mkdir()
    with pytest.raises(OSError, match=name):
        recover(state, job_dir)
    (folder / name).rmdir()
    (folder / "kept").rename(folder / name)
    found = recover(state, job_dir)
    assert found is not None
    assert (found.facts.receipt, found.facts.final_state) == ("receipt", "success")


@pytest.mark.parametrize("content", [None, b"", b'{"id": 1}'])
def test_a_folder_without_a_job_is_put_aside(state: StateDir, content: bytes | None) -> None:
    folder = state.job_dir(make_job().id).path
    folder.mkdir()
    if content is not None:
        (folder / "job.json").write_bytes(content)
    assert recover(state, JobDir(folder)) is None
    assert not folder.exists()
    assert (state.path / "ended" / folder.name).is_dir()


def test_a_damaged_folder_is_not_put_aside_while_its_process_lives(state: StateDir) -> None:
    """Its job would not be reported any more, and be started elsewhere next to that process."""
    job_dir = state.job_dir(make_job().id)
    job_dir.path.mkdir()
    lock = job_files.hold_lock(job_dir.path)
    assert lock is not None
    with pytest.raises(OSError, match="lives"):
        recover(state, job_dir)
    job_files.release_lock(lock)
    assert recover(state, job_dir) is None
