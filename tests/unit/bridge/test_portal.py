"""The crossing between the scheduler's thread and ours lets nothing through that would end the scheduler."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from edge_bridge.executor.adoption import read_records
from edge_bridge.portal import Portal
from edge_broker.connection.errors import JetStreamError


class Refusing:
    """A NATS that is there and refuses, and its records."""

    async def wait_connected(self) -> None:
        """It is."""

    async def get(self, _: str) -> None:
        raise JetStreamError(10047, "insufficient storage resources available")


async def _stay() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def portal() -> Iterator[Portal]:
    made = Portal("test")
    made.start(_stay)
    yield made
    assert made.stop(5)


def test_a_failure_behind_it_is_no_answer_not_an_exception(portal: Portal) -> None:
    refusing = Refusing()
    assert portal.call(lambda: read_records(refusing, refusing, ["job"]), 5) is None  # type: ignore[arg-type]  # a stand-in


def test_a_wait_is_bounded(portal: Portal) -> None:
    began = time.monotonic()
    assert portal.call(lambda: asyncio.Event().wait(), 0.1) is None
    assert time.monotonic() - began < 2
