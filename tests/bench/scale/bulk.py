"""An operator pauses and resumes a thousand workers, whose polls are parked, by one call."""

import re
import time
from functools import partial
from pathlib import Path

import aiohttp

from bench.figures import Row, cpu_seconds
from bench.scale.fleet import Fleet
from bench.scale.stand import Stand, manned_stand
from edge_schemas.wire.routes import ADMIN_WORKER_ACTIONS, METRICS
from support.nats.server import eventually
from support.relay.edge import create_access_token

WORKERS = 1000
POLL_TIMEOUT_S = 50.0
LONGEST_S = 90.0
ROUNDS = 2
TOLD = {"pause": "paused", "resume": "active"}


async def measure(directory: Path) -> list[Row]:
    """The time of each call, the time until the last worker was told, and what both cost."""
    async with manned_stand(directory, workers=WORKERS, jobs=1, poll_timeout_s=POLL_TIMEOUT_S) as (found, _, fleet):
        token = await create_access_token(found.broker, "bench")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            rows: list[Row] = []
            for number in range(ROUNDS):
                for do in TOLD:
                    await eventually(partial(_are_parked, found, session), timeout_s=LONGEST_S, what="all polls")
                    rows += await _act(found, fleet, session, do, number)
    return rows


async def _are_parked(stand: Stand, session: aiohttp.ClientSession) -> bool:
    """Those that come from one address at the same moment are many connections: some are refused, and come again."""
    async with session.get(stand.operators_url + METRICS) as reply:
        found = re.search(r"^edge_relay_polls_parked (\S+)$", await reply.text(), re.MULTILINE)
    return found is not None and float(found[1]) == WORKERS


async def _act(stand: Stand, fleet: Fleet, session: aiohttp.ClientSession, do: str, number: int) -> list[Row]:
    told = fleet.told[TOLD[do]]
    before = len(told)
    cpu = cpu_seconds(stand.pid), cpu_seconds(stand.nats_pid)
    body = {"action": {"do": do}, "where": {"site": "bench"}, "reason": "a benchmark"}
    began = time.time()
    async with session.post(stand.operators_url + ADMIN_WORKER_ACTIONS, json=body) as reply:
        result = await reply.json()
    ended = time.time()
    assert (reply.status, result.get("changed_count")) == (200, WORKERS), result
    await eventually(lambda: len(told) - before >= WORKERS, timeout_s=LONGEST_S, what="all workers were told")
    used = [cpu_seconds(pid) - then for pid, then in zip((stand.pid, stand.nats_pid), cpu, strict=True)]
    first, last = min(told[before:]), max(told[before:])
    what = f"{do} of {WORKERS} workers with parked polls, {number + 1}"
    return [
        (f"{what}: the call", f"{ended - began:.2f} s"),
        (f"{what}: begin of the call → first / last worker told", f"{first - began:.2f} / {last - began:.2f} s"),
        (f"{what}: end of the call → last worker told", f"{max(0.0, last - ended):.2f} s"),
        (f"{what}: CPU of relay / nats-server until then", f"{used[0]:.1f} / {used[1]:.1f} s"),
    ]
