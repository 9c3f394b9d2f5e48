"""How many jobs come and go."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_relay.dispatch.state.watched_job import WatchedJob, watched_job
from edge_relay.fleet.queues import flow
from edge_relay.fleet.queues.flow import PERIOD_S, PERIODS, Flow
from edge_schemas.life.model import new_record
from support.relay.jobs import make_job

START = 1_800_000_000


class _Mirror:
    """Reports changes of records as the mirror does."""

    is_current = True

    def on_record(self, listener: Callable[[WatchedJob | None, WatchedJob | None], None]) -> None:
        self.change = listener


def _job(queue: str, at: float) -> WatchedJob:
    record = new_record(make_job(queue))
    job = watched_job(record.id, record.model_dump_json().encode())
    assert job is not None
    values = {name: getattr(job, name) for name in WatchedJob.__slots__}
    return WatchedJob(**{**values, "created_at": at})


def _flow(mirror: Any, clock: list[float]) -> Flow:
    return Flow(mirror, now=lambda: clock[0])


@given(steps=st.lists(st.tuples(st.integers(0, 900), st.booleans()), max_size=30))
def test_the_counts_are_those_of_the_last_periods(steps: list[tuple[int, bool]]) -> None:
    mirror, clock = _Mirror(), [float(START)]
    counted = _flow(mirror, clock)
    times: dict[bool, list[float]] = {True: [], False: []}
    for seconds, comes in steps:
        clock[0] += seconds
        job = _job("q", clock[0])
        mirror.change(*((None, job) if comes else (job, None)))
        times[comes].append(clock[0])
    last = int(clock[0]) // PERIOD_S
    for comes, shown in ((True, counted.come((None, "q"))), (False, counted.gone((None, "q")))):
        periods = [int(at) // PERIOD_S for at in times[comes]]
        assert shown == tuple(periods.count(number) for number in range(last - PERIODS + 1, last + 1))


def test_jobs_that_are_listed_at_the_start_have_come_when_they_were_created_and_none_has_ended() -> None:
    mirror, clock = _Mirror(), [float(START)]
    counted = _flow(mirror, clock)
    mirror.is_current = False
    mirror.change(None, _job("q", START - 25))
    mirror.change(None, _job("q", START - PERIOD_S * PERIODS - 1))
    mirror.change(_job("q", START), None)
    assert sum(counted.come((None, "q"))) == counted.come((None, "q"))[-4] == 1
    assert sum(counted.gone((None, "q"))) == 0


def test_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MAX_QUEUES", 3)
    mirror, clock = _Mirror(), [float(START)]
    counted = _flow(mirror, clock)
    for number in range(5):
        clock[0] += PERIOD_S
        mirror.change(None, _job(f"q{number}", clock[0]))
    assert counted.queues() == {(None, f"q{number}") for number in (2, 3, 4)}
