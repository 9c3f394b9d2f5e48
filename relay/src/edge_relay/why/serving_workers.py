"""The workers of a queue as plain facts, from what the lists of operators are made of."""

from collections.abc import Iterable
from dataclasses import replace

from edge_relay.fleet.workers.index import WorkerView
from edge_schemas.admin.access import AccessScope
from edge_schemas.why.facts import ServingWorker
from edge_schemas.wire.workers import WorkerState


def workers_of_queue(
    views: Iterable[WorkerView], team: str | None, queue: str, scope: AccessScope
) -> tuple[list[WorkerView], int]:
    """The workers that serve a queue and that a caller may see, and how many more there are."""
    found = []
    hidden = 0
    for view in views:
        if view.state is WorkerState.REVOKED or view.access.team != team or queue not in view.settings.queues:
            continue
        if scope.has_site(view.site):
            found.append(view)
        else:
            hidden += 1
    return found, hidden


def worker_facts(view: WorkerView) -> ServingWorker:
    """What decides whether a worker takes a job; without the jobs that it holds."""
    order, poll = view.order, view.poll
    facts = ServingWorker(
        view.name,
        view.site,
        view.state,
        order=None if order is None else order.order,
        order_of_site=order is not None and order.of_site,
    )
    if poll is None:
        return facts
    return replace(
        facts,
        slots=poll.slots,
        free=poll.free,
        last_poll_at=poll.at,
        no_jobs_reason=poll.no_jobs_reason,
        conflict_since=poll.conflict_since,
        airflow=poll.airflow,
        auxiliary=poll.auxiliary,
        kinds=poll.kinds,
        granted=frozenset(poll.granted),
    )
