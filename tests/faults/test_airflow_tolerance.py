"""A worker is out of contact for longer than its queue tolerates: Airflow retries, and no two copies run at once."""

import asyncio
import os
import time

import pytest

from edge_schemas.wire.offline import FENCE_MARGIN_S
from faults.chaos.centre import another_relay, nats_down, stopped_process
from faults.chaos.cuts import Watched, behind_a_link
from faults.chaos.judge import twice_at_once
from local.system.system import LocalSystem
from support.nats.server import eventually
from support.network.link import Cut
from support.system.inspection import job_folders, until
from support.system.whole_system import QUEUES

GIVEN_UP_WITHIN_S = 5.0
FENCE_AND_KILL_S = 2.0


async def _outlive(system: LocalSystem, queue: str, *, beyond_s: float, works_again: bool = False) -> None:
    """The first worker never comes back, as far as the retry can know; it does after the retry has ended."""
    tolerance_s = float(QUEUES[queue]["offline_tolerance"])
    async with behind_a_link(system, f"{queue}-lost", queue) as (link, lost):
        task = await Watched.begin(system, f"one_{queue}", seconds=int(tolerance_s * 10))
        await task.ran_for(1)
        other = await system.add_worker(f"{queue}-other", [queue])
        began = time.time()
        await link.cut(Cut.BLACK_HOLE)

        async def retried() -> bool:
            return len(task.tries) == 2

        await until(retried, timeout_s=tolerance_s + 30, what="Airflow knows of a second try")
        failed_after_s = time.time() - began
        assert await task.end(timeout_s=60) == "success"
        await asyncio.sleep(max(0, began + tolerance_s + beyond_s - time.time()))
        await link.restore()
        pid = task.lives[0].pid
        await eventually(lambda: not _exists(pid), timeout_s=20, what="the first try's process goes")
        first, second = task.lives
        assert failed_after_s <= tolerance_s + GIVEN_UP_WITHIN_S
        assert twice_at_once([first, second]) == []
        assert first.last_seen - began <= max(tolerance_s - FENCE_MARGIN_S, tolerance_s / 2) + FENCE_AND_KILL_S
        assert [(each.number, each.state) for each in task.tries] == [(1, "failed"), (2, "success")]
        await _is_told(system, task, first_worker=lost.hostname, second_worker=other.hostname)
        (folder,) = job_folders(lost, task.dag, task.run, "work_long")
        assert "no contact with the relay" in (folder / "task.log").read_text()
        await system.workers.pop(f"{queue}-other").stop()
        if works_again:
            # It is the only one now.
            task = await Watched.begin(system, f"one_{queue}", seconds=1)
            assert await task.end(timeout_s=60) == "success"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _is_told(system: LocalSystem, task: Watched, *, first_worker: str, second_worker: str) -> None:
    """Airflow's users see where each try ran and why the first one failed."""
    tries = await system.api.tries(task.dag, task.run, "work_long")
    assert [each["hostname"] for each in tries] == [first_worker, second_worker]
    events = (await system.api.get("eventLogs", run_id=task.run, limit=100))["event_logs"]
    assert any("no contact with worker" in str(event["extra"]) for event in events)


@pytest.mark.timeout(300)
async def test_the_retry_never_overlaps_a_try_that_is_out_of_contact(system: LocalSystem) -> None:
    await _outlive(system, "brief", beyond_s=3)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_the_retry_never_overlaps_a_try_that_is_a_minute_late(system: LocalSystem) -> None:
    await _outlive(system, "patient", beyond_s=60, works_again=True)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("away", "queue"), [("NATS", "brief"), ("every relay", "brief"), ("every relay", "stubborn")])
async def test_an_outage_of_the_centre_fails_nobody(system: LocalSystem, away: str, queue: str) -> None:
    """On the first queue a task stands still from its fence on, until the centre says that it continues."""
    tolerance_s = QUEUES[queue]["offline_tolerance"]
    async with (
        another_relay(system, f"relay-{queue}") as replica,
        behind_a_link(system, queue, queue, relay_url=replica.url),
    ):
        task = await Watched.begin(system, f"one_{queue}", seconds=tolerance_s * 3)
        await task.ran_for(1)
        if away == "NATS":
            async with nats_down(system):
                await asyncio.sleep(tolerance_s + GIVEN_UP_WITHIN_S + 2)
        else:
            async with stopped_process(system.relay.child.pid):
                await replica.child.kill()
                await asyncio.sleep(tolerance_s + GIVEN_UP_WITHIN_S + 2)
            await replica.start()
        assert await task.end(timeout_s=90) == "success"
        assert [(each.number, each.state) for each in task.tries] == [(1, "success")]
        (life,) = task.lives
        assert life.events == ("begin", "end")
