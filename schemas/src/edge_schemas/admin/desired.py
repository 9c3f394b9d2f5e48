"""Desired state: what operators have set for workers, sites and queues. Kept in the bucket `edge_desired`.

Each entry has a version that rises with every change and never falls; an entry is emptied, never deleted.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import QueueName
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.offline import MAX_TOLERANCE_S, MIN_TOLERANCE_S
from edge_schemas.wire.workers import Availability

MAX_LABELS = 32
WORKER_PREFIX = "worker."
SITE_PREFIX = "site."
QUEUE_PREFIX = "queue."
"""The name of the queue's consumer follows."""


class AvailabilityOrder(Outbound):
    """An operator's order that a worker, a site or a queue is not available.

    Attributes:
        availability: Never `active`: the entry then has no order.
        until: When the order ends by itself; None if an operator ends it.
        by: Who gave it.
    """

    availability: Availability
    reason: str
    by: str
    since: Instant
    until: Instant | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.until is not None and now >= self.until


class DesiredWorker(Outbound):
    """What operators have set for a worker; key `worker.<name>`.

    Attributes:
        queues: None for those of its enrolment.
        slots: None for the worker's own setting.
    """

    version: int = 0
    order: AvailabilityOrder | None = None
    queues: tuple[QueueName, ...] | None = None
    slots: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class DesiredSite(Outbound):
    """What operators have set for all workers of a site; key `site.<name>`."""

    version: int = 0
    order: AvailabilityOrder | None = None


class DesiredQueue(Outbound):
    """What operators have set for a queue; key `queue.<queue as one token>`.

    Attributes:
        order: Only `paused`: no job of the queue is granted.
        tolerance_s: Offline tolerance of jobs that are dispatched from now on; None for the executor's setting.
        timeout_s: How long a job may wait; None for the executor's setting.
        kinds: The kinds of jobs that it accepts; None for all.
        max_running: How many of its jobs may run at once, whoever made them; None for no limit. Callbacks and
            connection tests count, but do not wait.
    """

    version: int = 0
    order: AvailabilityOrder | None = None
    tolerance_s: float | None = Field(default=None, ge=MIN_TOLERANCE_S, le=MAX_TOLERANCE_S)
    timeout_s: float | None = Field(default=None, gt=0)
    kinds: tuple[JobKind, ...] | None = None
    max_running: int | None = Field(default=None, ge=1)


DesiredEntry = DesiredWorker | DesiredSite | DesiredQueue
_MODELS: dict[str, type[DesiredWorker] | type[DesiredSite] | type[DesiredQueue]] = {
    WORKER_PREFIX: DesiredWorker,
    SITE_PREFIX: DesiredSite,
    QUEUE_PREFIX: DesiredQueue,
}


def read_desired(key: str, value: bytes) -> DesiredEntry | None:
    """What is stored under a key; None for a key of a later version.

    Raises:
        ValidationError: It can't be read.
    """
    model = next((model for prefix, model in _MODELS.items() if key.startswith(prefix)), None)
    return None if model is None else model.model_validate_json(value)


_STRICTEST = (Availability.STOPPED, Availability.DRAINING, Availability.PAUSED)


def strictest(orders: Iterable[AvailabilityOrder | None], now: datetime) -> AvailabilityOrder | None:
    """Of a worker's and its site's orders the one that counts; None if the worker is available.

    Args:
        orders: The first of two equal ones counts.
        now: An order whose time is over does not count.
    """
    valid = [order for order in orders if order is not None and not order.is_over(now)]
    return min(valid, key=lambda order: _STRICTEST.index(order.availability), default=None)


def settings_version(enrolled: int, entries: Iterable[DesiredWorker | DesiredSite], now: datetime) -> int:
    """The version of a worker's settings. It rises with each change of an entry, and when an order's time is over."""
    return enrolled + sum(
        chain.from_iterable(
            (2 * entry.version, entry.order is not None and entry.order.is_over(now)) for entry in entries
        )
    )
