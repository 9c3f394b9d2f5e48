"""Shares of the stream of logs: who is noisy is refused first, and nobody can use up the room."""

import pytest

from edge_relay.limits.kinds import Limit
from edge_relay.limits.log_shares import REPLICAS, LogShares
from edge_schemas.wire.errors import EdgeError, ErrorCode


@pytest.fixture
def reached() -> list[Limit]:
    return []


@pytest.fixture
def shares(reached: list[Limit]) -> LogShares:
    return LogShares(reached.append)


def store_until_refused(shares: LogShares, queue: str, chunk: int = 1) -> int:
    stored = 0
    while True:
        try:
            shares.check(queue)
        except EdgeError:
            return stored
        shares.charge(queue, chunk)
        stored += chunk


def test_the_queue_that_uses_most_is_refused_first(shares: LogShares, reached: list[Limit]) -> None:
    shares.set(1000, {"noisy": 1000, "other": 999})
    with pytest.raises(EdgeError) as refused:
        shares.check("noisy")
    assert refused.value.code == ErrorCode.RATE_LIMITED
    assert reached == [Limit.LOG_SPACE]
    shares.check("other")
    shares.check("new")


@pytest.mark.parametrize("replicas", range(1, REPLICAS + 1))
def test_a_queue_that_writes_through_all_replicas_leaves_half_of_the_room(replicas: int) -> None:
    """None of them knows of the others until the next look at the stream."""
    stored = 0
    for _ in range(replicas):
        one = LogShares(lambda _: None)
        one.set(8000, {})
        stored += store_until_refused(one, "noisy")
    assert stored <= 4000


def test_many_queues_one_after_the_other_never_use_up_the_room(shares: LogShares) -> None:
    free = 1 << 30
    for number in range(20):
        shares.set(free, {})
        stored = store_until_refused(shares, f"queue-{number}", chunk=1024)
        free -= stored
    assert free > 1 << 25


def test_a_stream_without_a_limit_refuses_nobody(shares: LogShares) -> None:
    shares.check("before the first look")
    shares.set(0, {})
    with pytest.raises(EdgeError):
        shares.check("q")
    shares.set(None, {"q": 1 << 60})
    shares.charge("q", 1 << 60)
    shares.check("q")
