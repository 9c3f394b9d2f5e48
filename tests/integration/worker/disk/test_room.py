"""What ended jobs take, and a disk that has no room left."""

import errno
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState
from edge_worker.jobs.registry import JobRegistry
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.machine.disk_watch import DiskWatch
from edge_worker.relay.link import Link
from edge_worker.settings import Settings
from edge_worker.state.ended_jobs import EndedJobs, size_on_disk
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host import job_files
from integration.worker.disk.conftest import fill
from support.relay.fake_relay import FakeRelay
from support.worker.agent import NAME, eventually, make_identity, open_client
from support.worker.agent_process import WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job
from support.worker.local_jobs import ended_job

LOG_BYTES = 256 * 1024


class Folders:
    """Jobs that have ended, and how much they may take."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.kept, self.current = root / "ended", root / "jobs"
        for folder in (self.kept, self.current):
            folder.mkdir()
        self.ended = EndedJobs(self.kept, self.current, max_bytes)
        self._made = 0

    def add(self, parent: Path) -> JobDir:
        """A job younger than those before, with a log."""
        self._made += 1
        job_dir = JobDir(parent / script_job("").id)
        job_dir.path.mkdir()
        job_files.claim(job_dir.path, job_files.Claim("j", 2**22 + 1, 1, "an earlier boot"))
        line = json.dumps({"event": "x" * 1000}).encode() + b"\n"
        job_dir.log.write_bytes(line * (LOG_BYTES // len(line)))
        os.utime(job_dir.path, (self._made, self._made))
        return job_dir

    def total(self) -> int:
        return size_on_disk(self.kept) + size_on_disk(self.current)


def test_oldest_of_the_ended_jobs_make_room(tmp_path: Path) -> None:
    folders = Folders(tmp_path, 3 * LOG_BYTES)
    jobs = [folders.add(folders.kept) for _ in range(6)]
    folders.ended.trim()
    left = [job for job in jobs if job.path.exists()]
    assert left == jobs[-len(left) :]
    assert len(left) >= 2
    assert folders.total() <= 3 * LOG_BYTES
    folders.ended.trim()
    assert [job for job in jobs if job.path.exists()] == left


def test_a_folder_that_cannot_be_read_or_goes_meanwhile_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    """What is raised there would end the agent."""
    folders = Folders(tmp_path, 1)
    kept, unreadable, goes = (folders.add(parent) for parent in (folders.kept, folders.current, folders.current))
    (unreadable.path / job_files.PID).unlink()
    (unreadable.path / job_files.PID).mkdir()
    (goes.path / "below").mkdir()
    folders.ended.trim()
    assert not kept.path.exists()
    over = threading.Event()

    def come_and_go() -> None:
        elsewhere = goes.path.with_name("elsewhere")
        while not over.is_set():
            goes.path.rename(elsewhere)
            elsewhere.rename(goes.path)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(6000):
            size_on_disk(goes.path)
    finally:
        over.set()
        thread.join()


async def test_log_that_waits_for_its_upload_goes_last_and_is_counted(relay: FakeRelay, tmp_path: Path) -> None:
    folders = Folders(tmp_path, int(1.5 * LOG_BYTES))
    waiting = [folders.add(folders.current) for _ in range(2)]
    kept = folders.add(folders.kept)
    folders.ended.trim()
    assert not kept.path.exists()
    assert folders.total() <= 1.5 * LOG_BYTES
    held = ended_job(script_job(""), waiting[0])
    relay.hand_out(held.job, NAME)
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    size = waiting[0].log.stat().st_size
    assert f"{size} bytes of this log are missing here" in json.loads(relay.logs[held.id])["event"]
    assert waiting[1].log.stat().st_blocks > 0


def test_job_that_runs_is_left_alone(tmp_path: Path) -> None:
    folders = Folders(tmp_path, 1)
    job_dir = folders.add(folders.current)
    lock = job_files.hold_lock(job_dir.path)
    assert lock is not None
    folders.ended.trim()
    assert job_dir.log.stat().st_blocks * 512 >= LOG_BYTES - 4096
    job_files.release_lock(lock)


def test_intake_closes_below_the_reserve_and_opens_well_above_it(tmp_path: Path) -> None:
    free: int | None = 1000
    table = JobRegistry(2)
    watch = DiskWatch(tmp_path, table, Folders(tmp_path, 1).ended, 1000, lambda _: free)
    seen = []
    for free in (1000, 999, 1050, None, 1100, 1000):  # noqa: B007 (read by the watch)
        watch.check()
        seen.append(table.free)
    assert seen == [2, 0, 0, 0, 2, 2]


def test_result_is_written_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_files.reserve_result(tmp_path)

    def refuse(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(job_files, "_draft", refuse)
    result = job_files.Result(exit_code=3, final_state="failed", error="x" * 500)
    job_files.write_result(tmp_path, result)
    assert job_files.read_result(tmp_path) == result


async def test_full_disk_stops_new_jobs_and_no_running_one(
    relay: FakeRelay, settings: Settings, short_dir: Path, small_disk: tuple[str, ...]
) -> None:
    """On a real file system of 4 MiB."""
    seed = short_dir / "seed"
    settings = settings.model_copy(update={"state_dir": short_dir / "disk", "runtime_dir": short_dir / "run"})
    identity = make_identity(relay)
    (seed / "worker.json").write_text(identity.model_dump_json())
    environment = agent_environment(settings, EDGE_WORKER_DISK_RESERVE_BYTES=str(1024 * 1024))
    go = short_dir / "go"
    job = script_job(
        f"print('up', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nassert succeed() == 204"
    )
    log = short_dir / "agent.log"
    async with agent_process([*small_disk, *WITH_FAKE_RUNTIME], environment, log) as agent:
        disk = Path(f"/proc/{agent.pid}/root{short_dir}/disk")
        await relay.publish(job)
        await relay.until(lambda: b"up" in relay.logs.get(job.id, b""))
        assert relay.polls[-1].free == 1
        fill(disk / "filler")
        await relay.until(lambda: relay.polls[-1].free == 0)
        assert "disk_nearly_full" in log.read_text()
        relay.oversells = True
        second = script_job("assert succeed() == 204")
        await relay.publish(second)
        await relay.until(lambda: bool(relay.released))
        assert not relay.released[0].counted
        assert "disk is nearly full" in relay.released[0].reason
        assert relay.state(second.id) is JobState.WAITING
        relay.oversells = False
        del relay.granted[second.id]
        go.touch()
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        outcome = relay.records[job.id].outcome
        assert outcome is not None
        assert outcome.exit_code == 0
        assert b"up" in relay.logs[job.id]
        (disk / "filler").unlink()
        await relay.until(lambda: relay.state(second.id) is JobState.ENDED)
        agent.send_signal(signal.SIGTERM)
        assert await agent.wait() == 0
    await eventually(lambda: "disk_has_room" in log.read_text())
    assert identity.enrollment.worker == NAME
