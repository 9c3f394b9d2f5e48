"""Calls that wait: woken once for each event, few at once, and never after the replica stops."""

import asyncio

import pytest

from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.kinds import Limit
from edge_relay.submissions.waits import Waits
from edge_schemas.wire.errors import EdgeError


class Room:
    """Room for three calls, two of each producer."""

    def __init__(self) -> None:
        self.lifecycle = Lifecycle()
        self.reached: list[Limit] = []
        self.waits = Waits(self.lifecycle, most=3, of_owner=2, on_limit=self.reached.append)


async def test_a_wake_up_before_the_wait_is_not_lost() -> None:
    room = Room()
    with room.waits.waiting("a", "end x", wait_s=60) as wait:
        room.waits.wake("end x")
        room.waits.wake("end y")
        assert await wait.next()


async def test_time_and_stop_end_a_wait() -> None:
    room = Room()
    with room.waits.waiting("a", "x", wait_s=0.01) as wait:
        assert await wait.next(), "one more look at the end"
        assert not await wait.next()
    with room.waits.waiting("a", "x", wait_s=60) as wait:
        waiting = asyncio.create_task(wait.next())
        await asyncio.sleep(0)
        room.lifecycle.stop()
        assert await waiting
        assert not await wait.next()


async def test_calls_are_limited_by_producer_and_in_all_and_counted_down() -> None:
    room = Room()
    with room.waits.waiting("a", "x", wait_s=1), room.waits.waiting("a", "x", "y", wait_s=1):
        with pytest.raises(EdgeError, match="at most 2 calls of a"), room.waits.waiting("a", "z", wait_s=1):
            pass
        with room.waits.waiting("a", "z", wait_s=0):
            assert len(room.waits) == 2, "a call that does not wait is not counted"
        with (
            room.waits.waiting("b", "z", wait_s=1),
            pytest.raises(EdgeError, match="too many calls"),
            room.waits.waiting("c", "z", wait_s=1),
        ):
            pass
    assert room.reached == [Limit.WAITS_OF_PRODUCER, Limit.WAITS]
    assert len(room.waits) == 0
    room.waits.wake("x")
