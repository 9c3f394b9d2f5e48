"""How long a replica needs after its connection to NATS was cut while every worker has running jobs."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Row, cpu_seconds
from bench.scale.fleet import Fleet, Member
from bench.scale.stand import Stand, manned_stand
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_schemas.life.events import Withdraw
from support.nats.server import eventually

WORKERS = 1000
JOBS = 50
CUT_S = 3.0
CUTS = 2
POLL_TIMEOUT_S = 50.0
REST_S = 10.0
LONGEST_S = 90.0
AT_ONCE = 64


async def measure(directory: Path) -> list[Row]:
    """While the connection is cut, one job of each worker is to stop: until the last stop is received."""
    manned = manned_stand(directory, workers=WORKERS, jobs=JOBS, poll_timeout_s=POLL_TIMEOUT_S)
    async with manned as (found, members, fleet):
        rows = [await _rest(found, "before")]
        for number in range(CUTS):
            rows += await _cut(found, fleet, members, number)
            rows.append(await _rest(found, f"after cut {number + 1}"))
        rows.append(("polls that ended in an error", str(fleet.failures)))
    return rows


async def _cut(stand: Stand, fleet: Fleet, members: list[Member], number: int) -> list[Row]:
    jobs = [member.jobs[number] for member in members]
    cpu = cpu_seconds(stand.pid), cpu_seconds(stand.nats_pid)
    cutting = asyncio.create_task(stand.nats.cut(CUT_S), name="cut")
    for first in range(0, len(jobs), AT_ONCE):
        await asyncio.gather(*(_stop(stand, job) for job in jobs[first : first + AT_ONCE]))
    await cutting
    since = time.time()
    try:
        await eventually(lambda: fleet.stops.keys() >= set(jobs), timeout_s=LONGEST_S)
    except AssertionError:
        missing = len(set(jobs) - fleet.stops.keys())
        return [(f"cut {number + 1}: not recovered within {LONGEST_S:g} s", f"{missing} of {len(jobs)} stops missing")]
    delays = sorted(fleet.stops[job] - since for job in jobs)
    used = [cpu_seconds(pid) - before for pid, before in zip((stand.pid, stand.nats_pid), cpu, strict=True)]
    what = f"cut {number + 1} of {CUT_S:g} s, {WORKERS} polls with {JOBS} running jobs each"
    return [
        (f"{what}: NATS back → stop received, median / last", f"{delays[len(delays) // 2]:.1f} / {delays[-1]:.1f} s"),
        (f"cut {number + 1}: CPU of relay / nats-server until then", f"{used[0]:.1f} / {used[1]:.1f} s"),
    ]


async def _stop(stand: Stand, job: str) -> None:
    _, after = await RecordStore(stand.broker).change(job, Withdraw("a benchmark", datetime.now(UTC)))
    assert after.holder is not None
    await stand.broker.publish(worker_notice(after.holder.worker))


async def _rest(stand: Stand, when: str) -> Row:
    """The polls go on; each ends and comes again within this time."""
    before = cpu_seconds(stand.pid)
    await asyncio.sleep(REST_S)
    used = cpu_seconds(stand.pid) - before
    what = f"{WORKERS} polls of {POLL_TIMEOUT_S:g} s with {JOBS} running jobs each, {when}: CPU of the relay"
    return what, f"{used / REST_S:.0%} of a core"
