"""Launches that fail while an earlier request for the same launch may be succeeding."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.client import LaunchError
from edge_worker.host_client.job_end import JobResult
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import LaunchFailed, LaunchSucceeded
from edge_worker.jobs.lease import Fence
from edge_worker.jobs.process_actions import ProcessActions
from edge_worker.jobs.registry import JobRegistry
from edge_worker.machine.failing_starts import FailingStarts
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host import job_files
from support.relay.jobs import make_job
from support.worker.local_jobs import RUNNING, local_job


class _Host:
    """Refuses a launch. `before` happens first."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = before

    async def launch(self, job: Job, job_dir: Path, code: Path | None = None) -> None:
        self._before()
        raise LaunchError("the task host did not answer", releases=True)

    async def wait(self, job_dir: Path, on_exit: Callable[[], None]) -> JobResult:
        raise NotImplementedError


class _NoCode:
    async def code_of(self, job: Job, say: Callable[[str], None]) -> None:
        return None

    def job_ended(self) -> None:
        raise NotImplementedError


class _NoFence:
    def reason(self, _: JobDriver) -> None:
        return None


def _job(tmp_path: Path) -> JobDriver:
    return local_job(make_job(), JobDir(tmp_path), RUNNING)


def _actions(before: Callable[[], object] = lambda: None) -> ProcessActions:
    host = _Host(before)
    starts = FailingStarts(JobRegistry(1))
    return ProcessActions(lambda _: host, cast("Fence", _NoFence()), starts, _NoCode(), grace_s=1)


def _process_starts(driver: JobDriver) -> bool:
    return job_files.claim(driver.dir.path, job_files.this_process(driver.id))


async def test_after_a_failed_launch_no_process_can_start(tmp_path: Path) -> None:
    driver = _job(tmp_path)
    assert isinstance(await _actions().launch(driver), LaunchFailed)
    assert not _process_starts(driver)


async def test_a_launch_that_was_ruled_out_stays_failed_after_a_restart(tmp_path: Path) -> None:
    """The outcome was not written down, so the next run of the agent launches the job again."""
    for _ in range(2):
        assert isinstance(await _actions().launch(_job(tmp_path)), LaunchFailed)


async def test_a_process_that_an_earlier_request_started_is_followed(tmp_path: Path) -> None:
    driver = _job(tmp_path)
    assert isinstance(await _actions(lambda: _process_starts(driver)).launch(driver), LaunchSucceeded)


async def test_a_job_that_is_no_longer_followed_gets_no_process_later(tmp_path: Path) -> None:
    driver = _job(tmp_path)
    await _actions().await_gone(driver, kills=False, thaws=False)
    assert not _process_starts(driver)


async def test_on_a_disk_that_cannot_be_written_a_failed_launch_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job_files, "claim", full)
    assert isinstance(await asyncio.wait_for(_actions().launch(_job(tmp_path)), 5), LaunchFailed)
