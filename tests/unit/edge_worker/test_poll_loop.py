"""When the poll loop sends its next poll."""

import asyncio
from typing import cast

import pytest

from edge_schemas.polls import Poll, PollAnswer, WorkerHealth
from edge_worker import poll_loop
from edge_worker.health import worker_versions
from edge_worker.hold import Hold
from edge_worker.jobs import JobTable
from edge_worker.link import Link
from edge_worker.poll_loop import Desk, PollLoop, Report
from edge_worker.relay_client import RelayClient

_TURNS = 50
"""More turns of the event loop than anything here takes that is not waiting for someone."""


class _Client:
    """Parks every poll until the test ends it."""

    def __init__(self) -> None:
        self.parked: dict[int, asyncio.Event] = {}

    async def poll(self, poll: Poll) -> PollAnswer | None:
        self.parked[poll.seq] = asyncio.Event()
        await self.parked[poll.seq].wait()
        return None


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def test_the_end_of_a_superseded_poll_calls_for_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_loop, "COALESCE_S", 0)
    client, table = _Client(), JobTable(1)
    report = Report(1, 0, lambda: worker_versions(None), WorkerHealth)
    loop = PollLoop(cast("RelayClient", client), table, Link(), cast("Desk", None), report, Hold(50))
    running = asyncio.create_task(loop.run())
    await _settle()
    table.changed()
    await _settle()
    assert list(client.parked) == [1, 2]
    client.parked[1].set()
    await _settle()
    assert list(client.parked) == [1, 2]
    client.parked[2].set()
    await _settle()
    assert list(client.parked) == [1, 2, 3]
    running.cancel()
    await asyncio.wait({running})
