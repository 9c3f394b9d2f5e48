"""The moments at which parked polls end."""

import asyncio

import pytest

from edge_relay.dispatch import poll_ends
from edge_relay.dispatch.poll_ends import SHORTEST_S, STEP_S, PollEnds
from support.nats.server import eventually


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_polls_of_one_step_end_together_and_none_waits_longer_than_it_may() -> None:
    ends, began = PollEnds(), now()
    timeouts = [50.0 + part / 100 * STEP_S for part in range(100)]
    found = [ends.add(lambda: None, timeout) for timeout in timeouts]
    assert len(set(found)) == len(ends) <= 2
    for at, timeout in zip(found, timeouts, strict=True):
        assert began + timeout - STEP_S < at <= now() + timeout


async def test_a_short_poll_ends_on_time() -> None:
    ends, over = PollEnds(), asyncio.Event()
    began = now()
    at = ends.add(over.set, 0.05)
    assert began + 0.05 <= at <= now() + 0.05
    await over.wait()
    assert now() >= began + 0.04
    assert len(ends) == 0


async def test_all_of_a_moment_are_called_but_those_that_were_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_ends, "SHORTEST_S", 0.0)
    ends, ended = PollEnds(), list[int]()
    polls = [lambda number=number: ended.append(number) for number in range(4)]
    moments = [ends.add(poll, STEP_S) for poll in polls]
    ends.remove(polls[2], moments[2])
    await eventually(lambda: len(ends) == 0)
    assert sorted(ended) == [0, 1, 3]
    ends.remove(polls[0], moments[0])  # after its moment


async def test_moments_without_polls_are_forgotten() -> None:
    ends = PollEnds()
    for _ in range(3):
        poll = asyncio.Event().set
        ends.remove(poll, ends.add(poll, SHORTEST_S))
    assert len(ends) == 0
