"""Rates by key, with the time of the event loop moved by hand."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from edge_relay.limits.kinds import Limit
from edge_relay.limits.rates import RateLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

Move = Callable[[float], None]


@pytest.fixture
async def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Moves the clock."""
    loop, now = asyncio.get_running_loop(), 1000.0
    monkeypatch.setattr(RateLimit, "_now", staticmethod(lambda: now))
    assert loop.is_running()

    def by(seconds: float) -> None:
        nonlocal now
        now += seconds

    return by


def allowed(rate: RateLimit, key: str, most: int = 1000) -> int:
    """How often the key may be used now."""
    taken = 0
    with suppress(EdgeError):
        for _ in range(most):
            rate.take(key)
            taken += 1
    return taken


async def test_a_burst_and_then_the_rate(move: Move) -> None:
    refused: list[Limit] = []
    rate = RateLimit(2, 10, Limit.POLLS, refused.append)
    assert allowed(rate, "a") == 10
    assert refused == [Limit.POLLS]
    with pytest.raises(EdgeError) as answer:
        rate.take("a")
    assert answer.value.code is ErrorCode.RATE_LIMITED
    assert answer.value.extra["retry_after_s"] >= 1
    move(1)
    assert allowed(rate, "a") == 2
    move(1000)
    assert allowed(rate, "a") == 10


async def test_one_key_takes_nothing_from_another(move: Move) -> None:
    rate = RateLimit(1, 3, Limit.POLLS, lambda _: None)
    assert allowed(rate, "a") == 3
    assert allowed(rate, "b") == 3


async def test_a_cost_that_is_known_afterwards_is_owed(move: Move) -> None:
    """The answer says for how long."""
    rate = RateLimit(10, 100, Limit.LOG_OF_JOB, lambda _: None)
    rate.check("a")
    rate.charge("a", 400)
    with pytest.raises(EdgeError) as refused:
        rate.check("a")
    assert refused.value.extra["retry_after_s"] == pytest.approx(30)
    move(29)
    with pytest.raises(EdgeError):
        rate.check("a")
    move(1.1)
    rate.check("a")


async def test_the_number_of_buckets_is_bounded(move: Move) -> None:
    rate = RateLimit(1, 3, Limit.LOOKUPS_OF_ADDRESS, lambda _: None, max_keys=10)
    for number in range(1000):
        rate.take(str(number))
    assert len(rate._full_at) == 10
