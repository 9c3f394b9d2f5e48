"""The files by which agent, host and a job's processes agree."""

import json
import os
from pathlib import Path

from edge_worker.task_host import job_files
from edge_worker.task_host.job_files import Result


def test_only_one_takes_a_job(tmp_path: Path) -> None:
    assert job_files.claim(tmp_path, job_files.this_process("job-1"))
    assert not job_files.claim(tmp_path, job_files.no_process("job-1"))
    taken = job_files.read_claim(tmp_path)
    assert taken is not None
    assert (taken.job, taken.pid) == ("job-1", os.getpid())
    assert [path.name for path in tmp_path.iterdir()] == ["pid.json"]


def test_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert job_files.read_result(tmp_path) is None
    result = Result(exit_code=-9, final_state="failed", error=None)
    job_files.write_result(tmp_path, result)
    assert job_files.read_result(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_lock_is_seen_and_excludes(tmp_path: Path) -> None:
    assert not job_files.is_locked(tmp_path)
    lock = job_files.hold_lock(tmp_path)
    assert lock is not None
    assert job_files.is_locked(tmp_path)
    assert job_files.hold_lock(tmp_path) is None
    job_files.release_lock(lock)
    assert not job_files.is_locked(tmp_path)


def test_released_lock_is_free_although_a_copy_of_it_is_open(tmp_path: Path) -> None:
    lock = job_files.hold_lock(tmp_path)
    assert lock is not None
    copy = os.dup(lock)
    job_files.release_lock(lock)
    assert not job_files.is_locked(tmp_path)
    os.close(copy)


def test_log_line_is_one_json_object_whatever_it_says(tmp_path: Path) -> None:
    job_files.write_log_line(tmp_path, "first\nsecond")
    job_files.write_log_line(tmp_path, "third", level="info")
    lines = [json.loads(line) for line in (tmp_path / "task.log").read_text().splitlines()]
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [
        ("first\nsecond", "error", "task"),
        ("third", "info", "task"),
    ]
    assert lines[0]["timestamp"].endswith("Z")
