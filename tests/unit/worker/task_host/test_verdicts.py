"""Every end that a job may have has its reason."""

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.job_end import JobResult
from edge_worker.task_host import job, job_files
from edge_worker.task_host.host import Host, HostSettings
from edge_worker.task_host.protocol import Connection, Endpoint, JobRequest, RunRequest
from edge_worker.task_host.supervision import job_process, memory
from edge_worker.task_host.supervision.memory import MemoryWatch


def _refuse(number: int) -> Any:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


def _request(folder: Path) -> RunRequest:
    wanted: JobRequest = {
        "id": "job-1",
        "workload": {},
        "core_executor": "",
        "offline": {"tolerance_s": 60.0, "fence_after_s": None},
    }
    return {"id": 7, "dir": str(folder), "job": wanted, "code": None, "log_max_bytes": 1}


def test_fork_that_fails_is_answered_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, agents = socket.socketpair()
    endpoint = Endpoint(tmp_path / "s", socket.socket(socket.AF_UNIX), os.open(tmp_path, os.O_RDONLY))
    host = Host(HostSettings("s", "w", "g", {}, 1), "3.3.2", endpoint)
    monkeypatch.setattr("os.fork", _refuse(errno.EAGAIN))
    host._run(Connection(ours), _request(tmp_path))
    answer = json.loads(agents.recv(4096))
    for end in (ours, agents, endpoint, host._signals, host._selector):
        end.close()
    assert answer == {"id": 7, "ok": False, "reason": "cannot fork: Resource temporarily unavailable"}


def test_job_on_a_full_disk_is_given_back_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.setsid", lambda: None)
    monkeypatch.setattr(job_process, "_become_subreaper", lambda: None)
    monkeypatch.setattr(job_files, "reserve_result", _refuse(errno.ENOSPC))
    answer, ready = os.pipe()
    assert job.run(_request(tmp_path), job.Settings("g", {}), ready) == 1
    with os.fdopen(answer) as pipe:
        said = json.load(pipe)
    assert said["releases"]
    assert said["reason"] == "the job's folder cannot be written: No space left on device"
    assert job_files.read_claim(tmp_path) is None


def test_bundle_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(job.Unrunnable, match=f"mapped to {tmp_path}, which the worker's user may not read"):
        job._bundles({"bundle_info": {"name": "dags"}}, {"dags": str(tmp_path)})


async def test_machine_that_went_down_is_said_to_have_done_so(tmp_path: Path) -> None:
    job_files.claim(tmp_path, job_files.Claim("job-1", os.getpid(), 1, "an earlier boot"))
    host = TaskHost(
        runtime_python=tmp_path,
        runtime_dir=tmp_path,
        state_dir=tmp_path,
        gateway_socket=tmp_path,
        env={},
        bundles={},
        hostname="w",
    )
    assert await host.wait(tmp_path) == JobResult(None, None, "the machine went down while the task ran")
    assert "the machine went down" in (tmp_path / job_files.TASK_LOG).read_text()


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("pgfault 1\noom_kill 3\n", "pgfault 9\noom_kill 3\n", ""),
        ("oom_kill 3\n", "oom_kill 4\n", "probably for lack of memory: it used up to"),
        (None, None, "perhaps for lack of memory"),
    ],
)
def test_kill_for_lack_of_memory_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str | None, text: str
) -> None:
    counters = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "_COUNTERS", counters)
    if before is not None:
        counters.write_text(before)
    watch = MemoryWatch()
    if after is not None:
        counters.write_text(after)
    explained = watch.explain_kill()
    assert text in explained
    assert bool(explained) == bool(text)
