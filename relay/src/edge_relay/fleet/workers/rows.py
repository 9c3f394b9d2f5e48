"""The rows of the list of workers."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from edge_relay.fleet.lists.pages import Column, Order, unix
from edge_relay.fleet.workers.index import WorkerView
from edge_relay.fleet.workers.problems import worker_problems
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.rows import WorkerJob, WorkerRow
from edge_schemas.admin.view_queries import WorkerQuery
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerState

WORKER_ORDER: Order[WorkerView] = Order(
    {
        "worker": Column(lambda view: view.name, is_text=True),
        "site": Column(lambda view: view.site, is_text=True),
        "state": Column(lambda view: view.state.value, is_text=True),
        "last_poll_at": Column(lambda view: unix(view.poll.at) if view.poll else None),
        "enrolled_at": Column(lambda view: unix(view.access.enrolled_at)),
        "hostname": Column(lambda view: view.host or None, is_text=True),
        "slots": Column(lambda view: view.poll.slots if view.poll else None),
        "free": Column(lambda view: view.poll.free if view.poll else None),
        "running": Column(lambda view: view.running),
    },
    lambda view: view.name,
)


def in_scope(view: WorkerView, scope: AccessScope) -> bool:
    """Whether an operator may see a worker: it is at one of their sites and serves one of their queues."""
    return scope.has_site(view.site) and (
        scope.queues is None or any(queue in scope.queues for queue in view.settings.queues)
    )


def matching_workers(views: Iterable[WorkerView], query: WorkerQuery, scope: AccessScope) -> Iterator[WorkerView]:
    """The workers that match all that is given."""
    key, has_value, _ = (query.label or "").partition("=")
    text = (query.text or "").lower()
    for view in views:
        if query.site is not None and view.site != query.site:
            continue
        if query.state is not None and view.state is not query.state:
            continue
        if query.queue is not None and query.queue not in view.settings.queues:
            continue
        if text and text not in view.text and text not in view.host.lower():
            continue
        if key and (key not in view.labels or (has_value and query.label != f"{key}={view.labels[key]}")):
            continue
        if scope.is_everything or in_scope(view, scope):
            yield view


def worker_row(
    view: WorkerView,
    entry: WorkerEntry | None,
    jobs: tuple[WorkerJob, ...],
    centre_airflow: str | None,
    now: datetime,
) -> WorkerRow:
    """The row of a worker.

    Args:
        view: The worker.
        entry: Its last poll in full.
        jobs: Those of the poll that the row names.
        centre_airflow: Airflow's version at the centre, if it is known.
        now: For the texts.
    """
    access, order = view.access, view.order
    row = WorkerRow(
        worker=access.worker,
        site=access.site,
        team=access.team,
        queues=view.settings.queues,
        labels=view.labels,
        state=view.state,
        state_since=_since(view, entry),
        order=None if order is None else order.order,
        order_of_site=order is not None and order.of_site,
        settings_version=view.settings.version,
        enrolled_at=access.enrolled_at,
        hostname=view.host,
    )
    if entry is None:
        return row
    phases = [job.phase for job in entry.jobs]
    granted = phases.count(JobPhase.GRANTED)
    conflict = entry.conflict
    return row.model_copy(
        update={
            "applied_version": entry.settings_version,
            "last_poll_at": entry.agent.last_poll_at,
            "address": entry.agent.address or None,
            "incarnation": entry.agent.incarnation,
            "slots": entry.slots,
            "free": entry.free,
            "running": len(phases) - granted,
            "granted": granted,
            "jobs": jobs,
            "problems": worker_problems(view, entry, centre_airflow, now),
            "no_jobs_reason": entry.no_jobs_reason,
            "conflict": () if conflict is None else (_place(conflict.older), _place(conflict.newer)),
            "tolerance_s": min((job.offline.tolerance_s for job in entry.jobs if job.offline), default=None),
            "versions": entry.versions,
            "health": entry.health,
            "proxy": None if entry.health.proxy is None else entry.health.proxy.value,
            "relay": entry.relay,
        }
    )


def _since(view: WorkerView, entry: WorkerEntry | None) -> datetime | None:
    """Since when it has its state; None where no record of that is kept."""
    match view.state:
        case WorkerState.REVOKED:
            return view.access.revoked_at
        case WorkerState.NEVER_SEEN:
            return view.access.enrolled_at
        case WorkerState.OFFLINE:
            return None if view.poll is None else view.poll.at
        case WorkerState.CONFLICT:
            return None if entry is None or entry.conflict is None else entry.conflict.since
        case WorkerState.PAUSED | WorkerState.DRAINING:
            return None if view.order is None else view.order.order.since
        case WorkerState.ONLINE | WorkerState.UNHEALTHY:
            return None


def _place(agent: AgentSeen) -> str:
    return f"{agent.host or 'unnamed host'} ({agent.address or 'address unknown'})"
