"""Since when a relay has served, although its clock may be set meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_relay.relay_beats import Service
from edge_schemas.wire.worker_entry import CLOCK_STEP_S

BEGINNING = datetime(2026, 11, 22, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return BEGINNING + timedelta(seconds=seconds)


def test_the_beginning_stays_while_the_clock_runs() -> None:
    service = Service()
    for passed_s in (0, 2, 3600):
        assert service.update(after(passed_s), 100 + passed_s) == (BEGINNING, after(passed_s))


def test_an_interruption_begins_again() -> None:
    service = Service()
    service.update(after(0), 100)
    service.interrupt()
    assert service.update(after(2), 102) == (after(2), after(2))


@pytest.mark.parametrize("step_s", [-86_400, -40, -2, 2, 40, 86_400])
def test_a_clock_that_is_set_begins_again(step_s: float) -> None:
    """Times from before can't be compared with times from after it."""
    service = Service()
    service.update(after(0), 100)
    assert service.update(after(2 + step_s), 102) == (after(2 + step_s), after(2 + step_s))
    assert service.update(after(4 + step_s), 104)[0] == after(2 + step_s)


def test_small_steps_count_together() -> None:
    service, step_s = Service(), 0.7 * CLOCK_STEP_S
    service.update(after(0), 100)
    assert service.update(after(2 + step_s), 102)[0] == BEGINNING
    assert service.update(after(4 + 2 * step_s), 104)[0] == after(4 + 2 * step_s)
