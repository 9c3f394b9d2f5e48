"""When a worker closes its intake by itself, and when it opens it again."""

import asyncio

import pytest

from edge_worker.jobs.registry import JobRegistry
from edge_worker.machine import failing_starts
from edge_worker.machine.clock_watch import ClockWatch
from edge_worker.machine.failing_starts import FailingStarts
from edge_worker.relay.clock_skew import ClockSkew


def test_a_clock_that_is_wrong_closes_the_intake_and_opens_it_once_it_is_clearly_right() -> None:
    table, skew = JobRegistry(2), ClockSkew()
    watch = ClockWatch(skew, table, limit_s=60)
    seen = []
    for seconds in (None, 59.0, 61.0, 57.0, -30.0, -70.0):
        skew.seconds = seconds
        watch.check()
        seen.append(table.closed_because is not None)
    assert seen == [False, False, True, True, False, True]
    assert table.closed_because == "the worker's clock is more than 60 s (max_clock_skew_s) behind the relay's"


async def test_starts_that_fail_in_a_row_close_the_intake_for_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failing_starts, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(failing_starts, "LONGEST_PAUSE_S", 0.02)
    table = JobRegistry(2)
    opened = asyncio.Event()
    table.on_change(lambda: None if table.closed_because else opened.set())
    starts = FailingStarts(table)
    for expected in (False, False, True, True):
        starts.failed("no memory")
        assert (table.closed_because is not None) is expected
    await opened.wait()
    starts.failed("no memory")
    assert table.closed_because == "5 jobs in a row could not be started; the last one: no memory"
    starts.succeeded()
    assert table.free == 2
    starts.failed("no memory")
    assert table.free == 2


def test_an_order_of_an_operator_is_no_reason_of_the_worker() -> None:
    table = JobRegistry(2)
    table.follow_order("an operator has paused this worker: moved")
    assert (table.free, table.closed_because) == (0, None)
    assert table.refusal() == "an operator has paused this worker: moved"
    table.follow_order(None)
    assert table.free == 2
