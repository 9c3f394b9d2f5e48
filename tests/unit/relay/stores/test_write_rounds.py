"""The rounds of writes: a write that comes alone does not wait, and no write waits for more than a round."""

import asyncio
import math

import pytest

from edge_relay.stores import write_rounds
from edge_relay.stores.write_rounds import WriteRounds


def waits(task: "asyncio.Task[None]") -> bool:
    return not task.done()


async def begun(rounds: WriteRounds) -> "asyncio.Task[None]":
    """A write that has begun to wait, unless it need not."""
    task = asyncio.create_task(rounds.wait())
    await asyncio.sleep(0)
    return task


async def test_a_write_that_comes_alone_does_not_wait() -> None:
    assert not waits(await begun(WriteRounds()))


async def test_writes_that_follow_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_rounds, "ROUND_S", 0.1)
    rounds, clock = WriteRounds(), asyncio.get_running_loop().time
    next_at = (math.floor(clock() / 0.1) + 1) * 0.1
    assert not waits(await begun(rounds))
    others = [await begun(rounds) for _ in range(3)]
    assert all(waits(one) for one in others)
    await others[0]
    assert not any(waits(one) for one in others)
    assert clock() >= next_at - 0.001, "not before the next multiple of the time between rounds"
    assert waits(await begun(rounds)), "the next round begins a whole round later"


async def test_a_write_that_is_cancelled_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_rounds, "ROUND_S", 0.05)
    rounds = WriteRounds()
    await rounds.wait()
    first, second = await begun(rounds), await begun(rounds)
    first.cancel()
    await second
    assert first.cancelled()
