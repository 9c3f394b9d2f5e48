"""The rows of the list of queues."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_broker.subjects import queue_token
from edge_relay.desired.state import DesiredState
from edge_relay.fleet.lists.pages import Column, Order, unix
from edge_relay.fleet.queues.counts import ConsumerCounts, RecordCounts
from edge_relay.fleet.queues.flow import Flow, QueueKey
from edge_relay.fleet.workers.index import WorkerView
from edge_relay.fleet.workers.rows import in_scope
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.rows import QueueRow
from edge_schemas.admin.view_queries import QueueQuery
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.workers import WorkerState

QUEUE_ORDER: Order[QueueRow] = Order(
    {
        "queue": Column(lambda row: row.queue, is_text=True),
        "held_back": Column(lambda row: row.held_back),
        "waiting": Column(lambda row: row.waiting),
        "granted": Column(lambda row: row.granted),
        "running": Column(lambda row: row.running),
        "oldest_at": Column(lambda row: unix(row.oldest_at)),
        "dead": Column(lambda row: row.dead),
        "workers": Column(lambda row: row.workers),
        "free_slots": Column(lambda row: row.free_slots),
    },
    lambda row: queue_token(row.team, row.queue),
)


Accepts = frozenset[str]
"""The kinds of jobs that a worker accepts."""


@dataclass(slots=True)
class Served:
    """Who serves a queue.

    Attributes:
        able: Workers that could take a job now, by the kinds that they accept.
        free: Slots of these.
    """

    workers: int = 0
    able: Counter[Accepts] = field(default_factory=Counter)
    free: Counter[Accepts] = field(default_factory=Counter)

    def for_kinds(self, kinds: Collection[str]) -> tuple[int, int]:
        """How many workers could take a job of one of these kinds, or of any if none is given, and their free slots."""
        able = [accepts for accepts in self.able if not kinds or not accepts.isdisjoint(kinds)]
        return sum(self.able[accepts] for accepts in able), sum(self.free[accepts] for accepts in able)


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Read at one moment, messages first."""

    consumers: Mapping[QueueKey, ConsumerCounts]
    records: Mapping[QueueKey, RecordCounts]


def served_queues(
    views: Iterable[WorkerView], desired: DesiredState, scope: AccessScope, centre_airflow: str | None
) -> dict[QueueKey, Served]:
    """Of each queue that a worker serves whose credential is valid. A paused queue is served, but nobody is able."""
    found: dict[QueueKey, Served] = defaultdict(Served)
    paused: dict[QueueKey, bool] = {}
    misfits: dict[str | None, bool] = {}
    for view in views:
        if view.state is WorkerState.REVOKED or not (scope.is_everything or in_scope(view, scope)):
            continue
        able = False
        if view.can_accept and view.poll is not None:
            airflow = view.poll.airflow
            if airflow not in misfits:
                misfits[airflow] = runtime_mismatch(airflow, centre_airflow) is not None
            able = not misfits[airflow]
        for queue in view.settings.queues:
            key = (view.access.team, queue)
            served = found[key]
            served.workers += 1
            if able and view.poll is not None:
                if key not in paused:
                    paused[key] = desired.is_paused(*key)
                if not paused[key]:
                    accepts = frozenset((*view.poll.kinds, *view.poll.auxiliary))
                    served.able[accepts] += 1
                    served.free[accepts] += view.poll.free
    return found


def existing_queues(counts: QueueCounts, served: Iterable[QueueKey], flow: Flow) -> set[QueueKey]:
    """Queues with a consumer, a job or a worker, or that had a job a short time ago."""
    return {*counts.consumers, *counts.records, *served, *flow.queues()}


def queue_rows(
    counts: QueueCounts, served: Mapping[QueueKey, Served], flow: Flow, desired: DesiredState
) -> list[QueueRow]:
    """A row for each queue that exists, or for which something is set."""
    existing = existing_queues(counts, served, flow)
    return [
        _row(key, counts, served.get(key) or Served(), flow, desired, exists=key in existing)
        for key in _sorted({*existing, *desired.queues()})
    ]


def queue_rows_of_sites(
    counts: QueueCounts, served: Mapping[QueueKey, Served], flow: Flow, desired: DesiredState, workers: Sequence[str]
) -> list[QueueRow]:
    """The rows for a caller who is limited to sites: of the queues that workers of these serve.

    A job that has not started is of no site, also while it is granted: it waits. What other sites do with the queue's
    jobs is not shown.

    Args:
        counts: Of all sites, as is `flow`.
        served: By workers of the sites.
        flow: Which jobs came.
        desired: The settings.
        workers: All workers of the sites.
    """
    rows = []
    for key in _sorted(served):
        row = _row(key, counts, served[key], flow, desired, exists=True)
        records = counts.records.get(key) or RecordCounts()
        running = sum(records.running_at[worker] for worker in workers)
        figures = {"running": running, "waiting": row.waiting + row.granted, "granted": 0, "redeliveries": 0}
        rows.append(row.model_copy(update={**figures, "out_per_minute": (), "of_own_sites": True}))
    return rows


def matching_queues(rows: Iterable[QueueRow], query: QueueQuery) -> Iterator[QueueRow]:
    """The queues that match all that is given."""
    text = (query.text or "").lower()
    for row in rows:
        if query.queue not in {None, row.queue} or query.team not in {None, row.team}:
            continue
        if text in row.queue.lower():
            yield row


def _sorted(keys: Iterable[QueueKey]) -> list[QueueKey]:
    return sorted(keys, key=lambda key: (key[1], key[0] or ""))


def _row(
    key: QueueKey, counts: QueueCounts, served: Served, flow: Flow, desired: DesiredState, *, exists: bool
) -> QueueRow:
    team, queue = key
    messages = counts.consumers.get(key) or ConsumerCounts()
    records = counts.records.get(key) or RecordCounts()
    able, free = served.for_kinds(records.waiting_kinds)
    return QueueRow(
        queue=queue,
        team=team,
        exists=exists,
        settings=desired.queue(team, queue),
        # A message is removed when its job starts or ends: those that are left belong to records that wait.
        held_back=max(0, records.waiting - messages.waiting - messages.granted),
        waiting=messages.waiting,
        granted=messages.granted,
        running=records.running,
        oldest_at=None if records.oldest is None else datetime.fromtimestamp(records.oldest, UTC),
        redeliveries=messages.redelivered,
        dead=records.parked,
        workers=served.workers,
        workers_able=able,
        free_slots=free,
        in_per_minute=flow.come(key),
        out_per_minute=flow.gone(key),
    )
