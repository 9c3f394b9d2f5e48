"""The fleet in one look: counts, what an operator should look at, and what a new installation still needs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from edge_relay.fleet.queues.flow import PERIODS
from edge_relay.fleet.views import FleetViews
from edge_relay.fleet.workers.index import WorkerView
from edge_relay.fleet.workers.problems import in_words
from edge_relay.fleet.workers.rows import in_scope
from edge_relay.workers.enroll_command import EnrollCommand
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.rows import Attention, NextStep, Overview, QueueRow, SiteRow, SiteState
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.workers import WorkerState

MAX_ATTENTION = 50
UNAPPLIED_AFTER_S = 60.0
CRITICAL, WARNING = "critical", "warning"


async def overview(views: FleetViews, scope: AccessScope, command: EnrollCommand) -> Overview:
    """What an operator with this scope sees; `command` is how a machine enrols.

    Raises:
        BrokerUnavailable: Nothing is known yet.
    """
    sites = await views.site_rows(scope)
    queues = await views.queue_rows(scope)
    counts = (await views.counts()).value
    had_jobs = bool(counts.consumers or counts.records)
    found = await views.all_workers()
    workers = [view for view in found.value if scope.is_everything or in_scope(view, scope)]
    now = datetime.now(UTC)
    attention = [*_of_sites(sites.value), *_of_workers(workers, sites.value, now), *_of_queues(queues.value, now)]
    attention.sort(key=lambda one: _RANKS.index(one.code))
    states = Counter(view.state for view in workers)
    site_states = Counter(row.state for row in sites.value)
    return Overview(
        workers={state: states[state] for state in WorkerState if states[state]},
        sites={state: site_states[state] for state in SiteState if site_states[state]},
        slots=sum(row.slots for row in sites.value),
        running=sum(row.running for row in queues.value),
        waiting=sum(row.waiting for row in queues.value),
        held_back=sum(row.held_back for row in queues.value),
        dead=sum(row.dead for row in queues.value),
        oldest_at=min((row.oldest_at for row in queues.value if row.oldest_at is not None), default=None),
        in_per_minute=_sums(row.in_per_minute for row in queues.value),
        out_per_minute=_sums(row.out_per_minute for row in queues.value),
        attention=tuple(attention[:MAX_ATTENTION]),
        next_steps=tuple(_next_steps(workers, command, had_jobs=had_jobs)) if scope.is_everything else (),
        as_of=min(sites.as_of, queues.as_of, found.as_of),
    )


_RANKS = (
    "site-offline",
    "conflict",
    "dead-jobs",
    "queue-without-worker",
    "queue-beyond-tolerance",
    "worker-unhealthy",
    "worker-offline",
    "settings-not-applied",
)
"""The most important first."""


def _of_sites(rows: Iterable[SiteRow]) -> Iterator[Attention]:
    for row in rows:
        if row.state is not SiteState.OFFLINE:
            continue
        together = ", lost together: its uplink may be down" if row.lost_together else ""
        yield Attention(
            code="site-offline",
            severity=CRITICAL,
            text=f"site {row.site} is offline with {_count(row.offline, 'worker')}{together}",
            since=row.since,
            view=_view("workers", site=row.site),
        )


def _of_workers(views: Iterable[WorkerView], sites: Iterable[SiteRow], now: datetime) -> Iterator[Attention]:
    offline_sites = {row.site for row in sites if row.state is SiteState.OFFLINE}
    for view in views:
        link = _view(f"workers/{view.name}")
        poll = view.poll
        if view.state is WorkerState.CONFLICT:
            text = f"two agents use the credential of {view.name}: decide which one is the worker"
            yield Attention(code="conflict", severity=CRITICAL, text=text, view=link)
        elif view.state is WorkerState.UNHEALTHY and poll is not None:
            text = f"{view.name} accepts no jobs: {poll.no_jobs_reason}"
            yield Attention(code="worker-unhealthy", severity=WARNING, text=text, view=link)
        elif view.state is WorkerState.OFFLINE and view.site not in offline_sites and poll is not None:
            text = f"{view.name} is silent, others of site {view.site} are not"
            yield Attention(code="worker-offline", severity=WARNING, text=text, since=poll.at, view=link)
        elif _is_unapplied(view, now) and poll is not None:
            text = f"{view.name} has not applied its settings: it has version {poll.settings_version}"
            since = None if view.order is None else view.order.order.since
            yield Attention(code="settings-not-applied", severity=WARNING, text=text, since=since, view=link)


def _is_unapplied(view: WorkerView, now: datetime) -> bool:
    """Whether an online worker has polled with older settings although the change is not new."""
    poll = view.poll
    if poll is None or view.state in {WorkerState.REVOKED, WorkerState.OFFLINE} or poll.settings_version is None:
        return False
    changed_at = None if view.order is None else view.order.order.since
    is_new = changed_at is not None and now - changed_at < timedelta(seconds=UNAPPLIED_AFTER_S)
    return poll.settings_version < view.settings.version and not is_new


def _of_queues(rows: Iterable[QueueRow], now: datetime) -> Iterator[Attention]:
    for row in rows:
        if row.dead:
            yield Attention(
                code="dead-jobs",
                severity=CRITICAL,
                text=f"{_count(row.dead, 'job')} of queue {row.queue} parked: released too often",
                view=_view("jobs", parked="true", queue=row.queue),
            )
        waiting = row.waiting + row.held_back
        if waiting and not row.workers:
            yield Attention(
                code="queue-without-worker",
                severity=CRITICAL,
                text=f"{_count(waiting, 'job')} of queue {row.queue} waiting, and no worker serves the queue",
                since=row.oldest_at,
                view=_view("queues", text=row.queue),
            )
        tolerance_s = row.settings.tolerance_s or OfflinePolicy().tolerance_s
        if row.oldest_at is not None and (age := (now - row.oldest_at).total_seconds()) > tolerance_s:
            yield Attention(
                code="queue-beyond-tolerance",
                severity=WARNING,
                text=f"a job of queue {row.queue} has waited for {in_words(age)}",
                since=row.oldest_at,
                view=_view("jobs", queue=row.queue, state="waiting", sort="waits_since"),
            )


def _next_steps(views: list[WorkerView], command: EnrollCommand, *, had_jobs: bool) -> Iterator[NextStep]:
    """Until the first job has come; the worker's commands are run on its machine."""
    valid = [view for view in views if view.state is not WorkerState.REVOKED]
    polled = [view for view in valid if view.poll is not None]
    if not valid:
        yield NextStep(
            code="create-token",
            text="Create an enrolment token: it lets a machine enrol as a worker of a site. SITE is a name that you "
            "choose. For a relay of 'edge-relay standalone', add --data-dir with its folder.",
            command="edge-relay enroll-token create --site SITE --queues default",
            view="tokens",
        )
        yield NextStep(
            code="enroll-worker",
            text="On the worker's machine, enrol; the command asks for the token." + _missing(command),
            command=command.text(),
        )
    if not any(view.poll.airflow for view in polled if view.poll):
        yield NextStep(
            code="install-runtime",
            text="On the worker's machine, install the Airflow that tasks need, at the centre's version.",
            command="edge-worker runtime install",
        )
    if not polled:
        text = "Start the agent, with the same --ca-file and --state-dir as the enrolment, if it had any."
        yield NextStep(code="run-worker", text=text, command="edge-worker run")
    if polled and not had_jobs:
        yield NextStep(
            code="send-job",
            text="No job has come yet: give a task of a DAG one of the workers' queues as its `queue`.",
            view="workers",
        )


def _sums(series: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*series, strict=True))) or (0,) * PERIODS


def _missing(command: EnrollCommand) -> str:
    """What the command can't say."""
    if command.url is not None:
        return ""
    return (
        " Put the relay's address in, or set RELAY_PUBLIC_URL and it is shown here. If the relay's certificate is "
        "from a private CA, set EDGE_WORKER_CA_FILE there first."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _view(path: str, **query: str) -> str:
    return path + (f"?{urlencode(query)}" if query else "")
