"""How long a job may continue without contact."""

import errno
import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import Facts
from edge_worker.jobs.lease import Fence, Lease
from edge_worker.jobs.registry import JobRegistry
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host import job_files
from edge_worker.task_host.lease import read_lease
from support.relay.jobs import make_job
from support.worker.local_jobs import GRANTED, RUNNING, local_job


@dataclass
class _Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def lease(tmp_path: Path, clock: _Clock) -> Lease:
    return Lease(tmp_path / "lease", clock=clock)


def _running(tmp_path: Path, offline: OfflinePolicy, *, is_launched: bool = True, facts: Facts = RUNNING) -> JobDriver:
    """A job whose process, if it has one, is this test's own."""
    job = make_job().model_copy(update={"offline": offline})
    job_dir = JobDir(tmp_path / job.id)
    job_dir.path.mkdir()
    job_dir.mark_started()
    if is_launched:
        assert job_files.hold_lock(job_dir.path) is not None
        job_files.claim(job_dir.path, job_files.this_process(job.id))
    return local_job(job, job_dir, facts)


def _table(*jobs: JobDriver) -> JobRegistry:
    table = JobRegistry(len(jobs))
    for driver in jobs:
        table.add(driver)
    return table


class TestFence:
    """Which jobs are frozen when."""

    def test_a_job_is_frozen_before_its_tolerance_is_over(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        driver = _running(tmp_path, OfflinePolicy(tolerance_s=100))
        fence = Fence(_table(driver), lease)
        lease.renew(clock.now)
        seen = []
        for after_s in (69.9, 70):
            clock.now = 1000 + after_s
            fence.check_all()
            seen.append(driver.now.is_frozen)
        assert seen == [False, True]
        assert driver.now.frozen_because == "no contact with the relay for 70 s (offline tolerance 100 s)"
        assert driver.now.stop is None

    def test_contact_alone_thaws_nothing(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        driver = _running(tmp_path, OfflinePolicy())
        fence = Fence(_table(driver), lease)
        lease.renew(clock.now)
        clock.now += 86_400
        fence.check_all()
        lease.renew(clock.now)
        fence.check_all()
        assert driver.now.is_frozen

    def test_contact_does_not_hide_the_silence_before_it(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        """A machine wakes, and its first poll is answered before anybody has looked at the clock."""
        driver = _running(tmp_path, OfflinePolicy(tolerance_s=60))
        fence = Fence(_table(driver), lease)
        fence.renew(clock.now)
        clock.now += 3600
        fence.renew(clock.now)
        assert driver.now.is_frozen

    def test_who_is_not_frozen(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        goes_on = _running(tmp_path, OfflinePolicy(on_silence=OnSilence.CONTINUE))
        decided = _running(tmp_path, OfflinePolicy(), facts=replace(RUNNING, final_state="success"))
        granted = _running(tmp_path, OfflinePolicy(), is_launched=False, facts=GRANTED)
        lease.renew(clock.now)
        clock.now += 86_400
        table = _table(goes_on, decided, granted)
        Fence(table, lease).check_all()
        assert [driver.now.is_frozen for driver in table] == [False, False, False]

    @pytest.mark.parametrize("is_known", [True, False])
    def test_a_job_that_cannot_be_examined_is_frozen(
        self, tmp_path: Path, clock: _Clock, lease: Lease, monkeypatch: pytest.MonkeyPatch, *, is_known: bool
    ) -> None:
        """Such as for want of file descriptors: it may run, and the check of the other jobs continues."""
        jobs = [_running(tmp_path, OfflinePolicy(tolerance_s=100)) for _ in range(2)]
        if is_known:
            lease.renew(clock.now)
        clock.now += 86_400

        def unreadable(*_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(job_files, "read_claim", unreadable)
        Fence(_table(*jobs), lease).check_all()
        assert [driver.now.is_frozen for driver in jobs] == [True, True]

    def test_an_answered_poll_renews_from_when_it_was_sent(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        driver = _running(tmp_path, OfflinePolicy(tolerance_s=100))
        fence = Fence(_table(driver), lease)
        lease.renew(clock.now)
        sent_at = clock.now = 1060
        clock.now += 50
        lease.renew(sent_at)
        lease.renew(sent_at - 30)  # an older one that is answered late
        clock.now = sent_at + 69
        fence.check_all()
        assert not driver.now.is_frozen
        clock.now = sent_at + 70
        fence.check_all()
        assert driver.now.is_frozen


class TestLease:
    """What the file says, and what is made of one that is there."""

    def test_supervisors_can_read_it(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        lease.renew(clock.now)
        found = read_lease(tmp_path / "lease")
        assert found is not None
        assert (found.boot, found.sent_at) == (job_files.boot_id(), 1000)

    def test_it_is_written_at_most_once_a_second(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        for now in (1000, 1000.5, 1000.9):
            clock.now = now
            lease.renew(now)
        assert json.loads((tmp_path / "lease").read_text())["sent_at"] == 1000
        clock.now = 1001
        lease.renew(1001)
        assert json.loads((tmp_path / "lease").read_text())["sent_at"] == 1001

    def test_the_silence_of_an_earlier_agent_counts(self, tmp_path: Path, clock: _Clock, lease: Lease) -> None:
        lease.renew(clock.now)
        clock.now += 500
        assert Lease(tmp_path / "lease", clock=clock).silence_s(JobDir(tmp_path)) == 500

    @pytest.mark.parametrize("boot", ["another boot", None])
    def test_without_one_of_this_boot_a_job_counts_from_its_start(
        self, tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch, boot: str | None
    ) -> None:
        if boot is not None:
            (tmp_path / "lease").write_text(json.dumps({"boot": boot, "sent_at": 999.0}))
        runs, waits = (_running(tmp_path, OfflinePolicy(), is_launched=launched) for launched in (True, False))
        os.utime(runs.dir.path / "started", (5000, 5000))
        monkeypatch.setattr(time, "time", lambda: 5040.0)
        lease = Lease(tmp_path / "lease", clock=clock)
        assert [lease.silence_s(driver.dir) for driver in (runs, waits)] == [40, math.inf]

    def test_a_lease_that_cannot_be_written_still_holds(self, clock: _Clock, tmp_path: Path) -> None:
        lease = Lease(tmp_path / "no such folder" / "lease", clock=clock)
        lease.renew(clock.now)
        clock.now += 7
        assert lease.silence_s(JobDir(tmp_path)) == 7
