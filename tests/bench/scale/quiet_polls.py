"""What a poll costs whose jobs run and for which there is nothing new."""

import ssl
from pathlib import Path

import aiohttp

from bench.figures import Row, cpu_seconds
from bench.scale.fleet import VERSIONS, Member
from bench.scale.stand import Stand, stand
from edge_schemas.wire.routes import POLL

JOBS = (0, 100, 1000)
BATCHES, POLLS = 5, 50
"""The least of several batches: what else the machine does makes the same work cost up to three times the CPU."""


async def measure(directory: Path) -> list[Row]:
    """CPU of relay and NATS for a poll, by its number of jobs."""
    async with stand(directory) as found:
        return [await _row(found, jobs) for jobs in JOBS]


async def _row(stand: Stand, jobs: int) -> Row:
    [member] = await stand.members(1, jobs)
    context = ssl.create_default_context(cafile=str(stand.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        await _poll(stand, session, member, 1)
        used = [await _batch(stand, session, member, 2 + number * POLLS) for number in range(BATCHES)]
    relay, nats = (min(one) / POLLS * 1e3 for one in zip(*used, strict=True))
    what = f"a poll with {jobs} running jobs and nothing new, CPU of relay / nats-server"
    return f"{what}, mean of {POLLS}, least of {BATCHES}", f"{relay:.1f} / {nats:.1f} ms"


async def _batch(stand: Stand, session: aiohttp.ClientSession, member: Member, first: int) -> tuple[float, float]:
    relay, nats = cpu_seconds(stand.pid), cpu_seconds(stand.nats_pid)
    for seq in range(first, first + POLLS):
        await _poll(stand, session, member, seq)
    return cpu_seconds(stand.pid) - relay, cpu_seconds(stand.nats_pid) - nats


async def _poll(stand: Stand, session: aiohttp.ClientSession, member: Member, seq: int) -> None:
    body = {
        "protocol": 1,
        "incarnation": 1,
        "seq": seq,
        "slots": 1024,
        "free": 0,
        "poll_timeout_s": 0,
        "settings_version": 1,
        "versions": VERSIONS,
        "jobs": [{"id": job, "phase": "running", "offline": {}} for job in member.jobs],
    }
    headers = {"Authorization": f"Bearer {member.secret}"}
    async with session.post(stand.url + POLL, json=body, headers=headers) as reply:
        assert reply.status == 204, await reply.text()
