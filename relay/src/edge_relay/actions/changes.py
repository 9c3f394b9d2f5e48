"""What each action makes of an entry of desired state; one that changes nothing returns the entry itself. No I/O."""

from typing import Any, TypeVar

from edge_relay.actions.order import AVAILABILITY_OF, Changed, Order, Target, check_end, event_of
from edge_schemas.admin.actions import (
    Drain,
    Pause,
    Resume,
    SetLabels,
    SetQueues,
    SetQueueSettings,
    SetSlots,
    Stop,
)
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.desired import MAX_LABELS, AvailabilityOrder, DesiredQueue, DesiredSite, DesiredWorker
from edge_schemas.wire.base import Outbound
from edge_schemas.wire.errors import EdgeError, ErrorCode

MAX_QUEUES = 100
Availabilities = Pause | Resume | Drain | Stop
_E = TypeVar("_E", DesiredWorker, DesiredSite, DesiredQueue)


def with_order(entry: _E, action: Availabilities, order: Order) -> _E:
    """After a pause, a drain, a stop, or the end of any of them.

    Raises:
        EdgeError: `invalid_request`: it would be over already.
    """
    current = None if entry.order is None or entry.order.is_over(order.at) else entry.order
    if isinstance(action, Resume):
        return entry if current is None else entry.model_copy(update={"order": None})
    check_end(action.until, order.at)
    wanted = AvailabilityOrder(
        availability=AVAILABILITY_OF[action.do],
        reason=order.reason,
        by=order.operator.name,
        since=order.at,
        until=action.until,
    )
    if current is not None and current == wanted.model_copy(update={"by": current.by, "since": current.since}):
        return entry
    return entry.model_copy(update={"order": wanted})


def with_queues(entry: DesiredWorker, action: SetQueues, enrolled: tuple[str, ...]) -> DesiredWorker:
    """After a change of a worker's queues.

    Args:
        entry: The worker's.
        action: The change.
        enrolled: The queues of its enrolment.

    Raises:
        EdgeError: `invalid_request`.
    """
    begin = action.queues or entry.queues or enrolled
    kept = (queue for queue in begin if queue not in action.remove)
    queues = enrolled if action.as_enrolled else tuple(dict.fromkeys((*kept, *action.add)))
    if not queues:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "a worker must serve at least one queue: pause it instead")
    if len(queues) > MAX_QUEUES:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker serves at most {MAX_QUEUES} queues")
    own = None if queues == enrolled else queues
    return entry if own == entry.queues else entry.model_copy(update={"queues": own})


def with_slots(entry: DesiredWorker, action: SetSlots) -> DesiredWorker:
    """After a change of a worker's slots."""
    return entry if action.slots == entry.slots else entry.model_copy(update={"slots": action.slots})


def with_labels(entry: DesiredWorker, action: SetLabels) -> DesiredWorker:
    """After a change of a worker's labels.

    Raises:
        EdgeError: `invalid_request`: there would be too many.
    """
    kept = {key: value for key, value in entry.labels.items() if key not in action.remove}
    labels = {**kept, **action.set}
    if len(labels) > MAX_LABELS:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker has at most {MAX_LABELS} labels")
    return entry if labels == entry.labels else entry.model_copy(update={"labels": labels})


def with_queue_settings(entry: DesiredQueue, action: SetQueueSettings) -> DesiredQueue:
    """After a change of a queue's settings; a field that the request leaves out stays."""
    given = {name: getattr(action, name) for name in action.model_fields_set - {"do"}}
    changed = entry.model_copy(update=given)
    return entry if changed == entry else changed


def changed(before: Outbound, after: Outbound) -> Changed:
    """The fields that differ, as plain values."""
    one, other = _plain(before), _plain(after)
    names = [name for name in one if name != "version" and one[name] != other[name]]
    return Changed({name: one[name] for name in names}, {name: other[name] for name in names})


def describe(order: Order, do: str, target: Target, before: Outbound, after: Outbound) -> AuditEvent:
    """The event of a change of an entry."""
    return event_of(order, do, target, changed(before, after))


def _plain(entry: Outbound) -> dict[str, Any]:
    return entry.model_dump(mode="json")
