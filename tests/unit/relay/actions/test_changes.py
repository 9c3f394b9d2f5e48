"""What each action makes of an entry, and which workers a filter selects."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_relay.actions.changes import changed, with_labels, with_order, with_queue_settings, with_queues, with_slots
from edge_relay.actions.order import Order
from edge_relay.actions.worker_filter import WorkerTraits, matches
from edge_relay.identity.operators.operator import Operator
from edge_schemas.admin.access import AccessScope, Role, SignedInBy
from edge_schemas.admin.actions import (
    Drain,
    Pause,
    Resume,
    SetLabels,
    SetQueues,
    SetQueueSettings,
    SetSlots,
    WorkerFilter,
)
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue, DesiredWorker
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.workers import Availability, WorkerState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def order(by: str = "ann", reason: str = "moved", at: datetime = NOW) -> Order:
    return Order(Operator(by, Role.OPERATOR, AccessScope(), SignedInBy.TOKEN, "::1"), reason, at)


class TestAvailability:
    """Pause, drain, resume."""

    def test_a_pause_and_its_repeat(self) -> None:
        paused = with_order(DesiredWorker(), Pause(do="pause", until=LATER), order())
        wanted = AvailabilityOrder(availability=Availability.PAUSED, reason="moved", by="ann", since=NOW, until=LATER)
        assert paused.order == wanted
        assert with_order(paused, Pause(do="pause", until=LATER), order(by="bob", at=NOW + timedelta(1 / 48))) is paused
        assert with_order(paused, Pause(do="pause"), order()) is not paused
        assert with_order(paused, Drain(do="drain", until=LATER), order()) is not paused

    def test_resume_ends_what_is_not_over(self) -> None:
        paused = with_order(DesiredWorker(), Pause(do="pause", until=LATER), order())
        assert with_order(paused, Resume(do="resume"), order()).order is None
        assert with_order(paused, Resume(do="resume"), order(at=LATER)) is paused
        empty = DesiredWorker()
        assert with_order(empty, Resume(do="resume"), order()) is empty

    def test_a_pause_after_one_that_is_over_is_new(self) -> None:
        over = with_order(DesiredWorker(), Pause(do="pause", until=LATER), order())
        again = with_order(over, Pause(do="pause"), order(at=LATER))
        assert again.order is not None
        assert again.order.since == LATER

    def test_an_end_in_the_past_is_refused(self) -> None:
        with pytest.raises(EdgeError, match="future"):
            with_order(DesiredWorker(), Pause(do="pause", until=NOW), order())


@pytest.mark.parametrize(
    ("own", "action", "expected"),
    [
        (None, {"add": ["c"]}, ("a", "b", "c")),
        (None, {"remove": ["a"]}, ("b",)),
        (None, {"queues": ["c", "c", "d"]}, ("c", "d")),
        (("x",), {"add": ["a", "b"], "remove": ["x"]}, None),
        (("x",), {"queues": ["y"], "add": ["z"]}, ("y", "z")),
        (("x",), {"as_enrolled": True}, None),
        (None, {"add": ["a"]}, None),
    ],
)
def test_queues_are_replaced_added_and_removed(
    own: tuple[str, ...] | None, action: dict[str, Any], expected: tuple[str, ...] | None
) -> None:
    """None: those of its enrolment, "a" and "b"."""
    entry = DesiredWorker(queues=own)
    wanted = SetQueues.model_validate({"do": "set-queues", **action})
    after = with_queues(entry, wanted, ("a", "b"))
    assert after.queues == expected
    assert (after is entry) is (own == expected)
    assert with_queues(after, wanted, ("a", "b")).queues == expected, "a repeat changes nothing"


def test_a_worker_keeps_at_least_one_queue() -> None:
    with pytest.raises(EdgeError, match="at least one queue"):
        with_queues(DesiredWorker(), SetQueues(do="set-queues", remove=("a",)), ("a",))


def test_slots_labels_and_settings_of_queues() -> None:
    entry = with_slots(DesiredWorker(), SetSlots(do="set-slots", slots=0))
    assert entry.slots == 0
    assert with_slots(entry, SetSlots(do="set-slots", slots=0)) is entry
    labelled = with_labels(entry, SetLabels(do="set-labels", set={"line": "3"}))
    assert with_labels(labelled, SetLabels(do="set-labels", set={"line": "3"}, remove=("hall",))) is labelled
    assert with_labels(labelled, SetLabels(do="set-labels", remove=("line",))).labels == {}
    with pytest.raises(EdgeError, match="at most 32 labels"):
        with_labels(labelled, SetLabels(do="set-labels", set={f"k{n}": "" for n in range(32)}))
    queue = with_queue_settings(DesiredQueue(max_running=3), SetQueueSettings(do="set", timeout_s=60))
    assert (queue.timeout_s, queue.max_running) == (60, 3), "what is left out stays"
    back = with_queue_settings(queue, SetQueueSettings(do="set", max_running=None))
    assert (back.timeout_s, back.max_running) == (60, None), "None is the default"
    found = changed(queue, back)
    assert (found.before, found.after) == ({"max_running": 3}, {"max_running": None})
    assert not changed(queue, queue)


@pytest.mark.parametrize(
    ("where", "is_selected"),
    [
        ({}, True),
        ({"site": "plant"}, True),
        ({"site": "office"}, False),
        ({"queue": "b"}, True),
        ({"queue": "c"}, False),
        ({"state": "paused"}, True),
        ({"state": "online"}, False),
        ({"label": "line"}, True),
        ({"label": "line=3"}, True),
        ({"label": "line=4"}, False),
        ({"label": "hall"}, False),
        ({"text": "PRESS"}, True),
        ({"text": "line=3"}, True),
        ({"text": "nowhere"}, False),
        ({"site": "plant", "queue": "c"}, False),
    ],
)
def test_a_filter_selects_what_matches_all_of_it(where: dict[str, str], is_selected: bool) -> None:
    traits = WorkerTraits("w-1", "plant", ("a", "b"), WorkerState.PAUSED, "press-4", {"line": "3"})
    assert matches(traits, WorkerFilter.model_validate(where)) is is_selected
