"""A real task, on a disk that fills up under it or with a log that outgrows its limit."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.worker.disk.conftest import fill
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = [pytest.mark.soak, pytest.mark.timeout(180)]


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    async with whole_worker(tmp_path, short_dir / "run") as worker:
        yield worker


class Chatter:
    """A task that prints until it is told to end."""

    def __init__(self, worker: WholeWorker, folder: Path) -> None:
        self.flag, self._count = folder / "flag", folder / "count"
        worker.api.variables = {"flag": str(self.flag), "count": str(self._count)}
        self.job = sdk_job("chatter")

    @property
    def lines(self) -> int:
        """As many as it has printed, by its own count."""
        text = self._count.read_text() if self._count.exists() else ""
        return int(text or 0)

    async def until_more(self, lines: int) -> None:
        """So many more have been printed."""
        goal = self.lines + lines
        await eventually(lambda: self.lines >= goal, within_s=100)


async def test_task_on_a_full_disk_continues_and_its_log_says_what_is_missing(
    worker: WholeWorker, short_dir: Path, tmp_path: Path, small_disk: tuple[str, ...]
) -> None:
    task = Chatter(worker, tmp_path)
    (worker.settings.state_dir / "worker.json").rename(short_dir / "seed" / "worker.json")
    worker.settings = worker.settings.model_copy(update={"state_dir": short_dir / "disk"})
    worker.prefix = small_disk
    worker.more = {"EDGE_WORKER_DISK_RESERVE_BYTES": "1048576"}
    await worker.start_agent()
    await worker.relay.publish(task.job)
    await task.until_more(10)
    assert worker.agent is not None
    disk = Path(f"/proc/{worker.agent.pid}/root{short_dir}/disk")
    fill(disk / "filler")
    await task.until_more(50)
    (disk / "filler").unlink()
    await task.until_more(10)
    task.flag.touch()
    outcome = (await worker.ended(task.job.id)).outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert worker.api.states == {task.job.id: "success"}
    await worker.until_printed(task.job.id, "last")
    assert any("bytes of this log were lost" in event for event in worker.events(task.job.id))


async def test_log_that_outgrows_its_limit_while_the_link_is_away_stays_small(
    worker: WholeWorker, tmp_path: Path
) -> None:
    task = Chatter(worker, tmp_path)
    limit = 64 * 1024
    worker.more = {"EDGE_WORKER_LOG_MAX_BYTES": str(limit)}
    await worker.start_agent()
    await worker.relay.publish(task.job)
    await worker.relay.until(lambda: len(worker.events(task.job.id)) > 5)
    await worker.relay.stop()
    log = worker.folder(task.job.id) / "task.log"
    await task.until_more(3 * limit // 1000)
    assert log.stat().st_size > 2 * limit
    assert log.stat().st_blocks * 512 <= limit + 64 * 1024
    await worker.relay.start()
    task.flag.touch()
    await worker.ended(task.job.id)
    await worker.until_printed(task.job.id, "last")
    events = worker.events(task.job.id)
    assert sum("bytes of this log are missing here" in event for event in events) >= 1
