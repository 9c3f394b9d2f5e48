"""Rows of the lists that operators see, and one item in full.

Every list is a page: its rows, how many there are in all, and a cursor for the next page. A cursor names the last row
by what the list is sorted by, so rows that come or go meanwhile neither repeat nor hide others.
"""

from enum import StrEnum

from pydantic import Field

from edge_schemas.admin.access import AccessTokenRow, EnrollTokenRow
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.life.model import JobRecord, JobState, Verdict
from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.jobs import BundleRef, JobKind
from edge_schemas.wire.worker_report import JobPhase, StoredHealth, StoredVersions
from edge_schemas.wire.workers import WorkerState

DEFAULT_PAGE_ROWS = 100
MAX_PAGE_ROWS = 1000


class Page(Outbound):
    """What all lists share.

    Attributes:
        total: Rows of all pages; None where they are not counted.
        next: Cursor of the next page; None if this is the last one.
        as_of: The age of what the rows show: nothing in them is older.
    """

    total: int | None = None
    next: str | None = None
    as_of: Instant


MAX_JOBS_OF_ROW = 3


class WorkerJob(Outbound):
    """A job on a worker, as the worker's last poll reported it."""

    job: str
    phase: JobPhase
    queue: str | None = None
    task: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None
    started_at: Instant | None = None


class WorkerRow(Outbound):
    """A worker.

    Attributes:
        order: The order that counts, the worker's own or its site's.
        order_of_site: That order is the site's.
        settings_version: Of the settings that operators want.
        applied_version: Of the settings that the worker has applied.
        slots: None if it has never polled, like all that follows.
        running: Jobs that it has started.
        granted: Jobs that it was granted and has not started.
        jobs: The first three of the jobs on it that the caller may see.
        problems: What is wrong with it, in words; empty if nothing is.
        proxy: How it reaches the relay: direct, http or https.
    """

    worker: str
    site: str
    team: str | None = None
    queues: tuple[str, ...]
    labels: dict[str, str] = Field(default_factory=dict)
    state: WorkerState
    state_since: Instant | None = None
    order: AvailabilityOrder | None = None
    order_of_site: bool = False
    settings_version: int
    applied_version: int | None = None
    enrolled_at: Instant
    last_poll_at: Instant | None = None
    hostname: str = ""
    address: str | None = None
    incarnation: int | None = None
    slots: int | None = None
    free: int | None = None
    running: int | None = None
    granted: int | None = None
    jobs: tuple[WorkerJob, ...] = ()
    problems: tuple[str, ...] = ()
    no_jobs_reason: str | None = None
    conflict: tuple[str, ...] = ()
    tolerance_s: float | None = None
    versions: StoredVersions | None = None
    health: StoredHealth | None = None
    proxy: str | None = None
    relay: str | None = None


class WorkerPage(Page):
    """Workers."""

    items: tuple[WorkerRow, ...]


class WorkerDetail(Outbound):
    """One worker in full.

    Attributes:
        history: Its last events, the newest first.
        missing: What keeps it from running jobs, in the words of the doctor, with what to do.
    """

    row: WorkerRow
    jobs: tuple[WorkerJob, ...] = ()
    history: tuple[AuditEvent, ...] = ()
    missing: tuple[str, ...] = ()
    as_of: Instant


class SiteState(StrEnum):
    """The state of a site, from its workers."""

    EMPTY = "empty"
    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class SiteRow(Outbound):
    """A site.

    Attributes:
        since: Since when it has this state.
        lost_together: The workers that were last heard within a few seconds of one another: their uplink is lost.
    """

    site: str
    state: SiteState
    since: Instant | None = None
    order: AvailabilityOrder | None = None
    workers: int
    online: int
    offline: int
    paused: int
    slots: int
    running: int
    lost_together: int = 0


class SitePage(Page):
    """Sites."""

    items: tuple[SiteRow, ...]


class QueueRow(Outbound):
    """A queue.

    Attributes:
        exists: False if no worker serves it and it has neither a consumer nor a job: only an order or a setting of an
            operator names it. Its name may be mistyped.
        held_back: Jobs with a record and no message yet: the executor publishes them when slots need them.
        waiting: Jobs with a message that were not granted.
        granted: Jobs that were granted and not started yet.
        oldest_at: Since when the job that has waited longest waits.
        redeliveries: Messages that were delivered more than once, of those that wait.
        dead: Parked jobs.
        workers: Workers that serve it.
        workers_able: Those of them that could take a job now: if jobs wait, one of a kind that waits.
        free_slots: Of these.
        of_own_sites: The caller is limited to sites: workers, slots and running jobs are of these only; `waiting` is
            what waits for any site, granted or not. `granted`, `redeliveries` and `out_per_minute` are left out.
        in_per_minute: Jobs that came in each of the last 60 periods of 10 s, the newest last.
        out_per_minute: Jobs that ended in the same periods.
    """

    queue: str
    team: str | None = None
    exists: bool = True
    settings: DesiredQueue
    held_back: int
    waiting: int
    granted: int
    running: int
    oldest_at: Instant | None = None
    redeliveries: int = 0
    dead: int = 0
    workers: int
    workers_able: int
    free_slots: int
    of_own_sites: bool = False
    in_per_minute: tuple[int, ...] = ()
    out_per_minute: tuple[int, ...] = ()


class QueuePage(Page):
    """Queues."""

    items: tuple[QueueRow, ...]


class JobRow(Outbound):
    """A job.

    Attributes:
        task: `dag.task` with map index, what an auxiliary job is, or the name of a submitted job.
        kind: Of a job that is no task.
        producer: Who submitted it; None for a job of Airflow, like what follows up to `not_before`.
        attempt: How often it was started.
        not_before: Until when it is delayed.
        waits_since: While it waits.
    """

    job: str
    queue: str
    team: str | None = None
    state: JobState
    task: str
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None
    kind: JobKind | None = None
    producer: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    group: str | None = None
    priority: int | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    not_before: Instant | None = None
    created_at: Instant
    waits_since: Instant | None = None
    worker: str | None = None
    site: str | None = None
    started_at: Instant | None = None
    stop_reason: str | None = None
    parked: str | None = None
    releases: int = 0
    verdict: Verdict | None = None
    reason: str | None = None
    ended_at: Instant | None = None


class JobPage(Page):
    """Jobs."""

    items: tuple[JobRow, ...]


class JobMoment(Outbound):
    """A point of a job's timeline."""

    at: Instant
    what: str
    worker: str | None = None


class JobDetail(Outbound):
    """One job in full: its record without the workload, and its timeline, the oldest point first.

    Attributes:
        bundle: The published version of DAG code that it runs; None without one, and once the job has ended.
    """

    row: JobRow
    record: JobRecord
    timeline: tuple[JobMoment, ...]
    bundle: BundleRef | None = None
    airflow_url: str | None = None
    as_of: Instant


class AccessTokenPage(Page):
    """Access tokens."""

    items: tuple[AccessTokenRow, ...]


class EnrollTokenPage(Page):
    """Enrolment tokens."""

    items: tuple[EnrollTokenRow, ...]


class AuditPage(Page):
    """Events of the audit, the newest first."""

    items: tuple[AuditEvent, ...]


class Overview(Outbound):
    """The fleet in one look.

    Attributes:
        attention: What an operator should look at, most important first; each links to a view.
    """

    workers: dict[WorkerState, int]
    sites: dict[SiteState, int]
    slots: int
    running: int
    waiting: int
    held_back: int
    dead: int
    oldest_at: Instant | None = None
    in_per_minute: tuple[int, ...] = ()
    out_per_minute: tuple[int, ...] = ()
    attention: tuple["Attention", ...] = ()
    next_steps: tuple["NextStep", ...] = ()
    as_of: Instant


class Attention(Outbound):
    """Something an operator should look at.

    Attributes:
        code: Stable, for example `site-offline`.
        view: Path of the view below `/ui`, for example `workers?site=plant-7&state=offline`.
    """

    code: str
    severity: str
    text: str
    since: Instant | None = None
    view: str


class NextStep(Outbound):
    """What a new installation still needs.

    Attributes:
        command: To be copied; holds `TOKEN` where a new enrolment token belongs.
    """

    code: str
    text: str
    command: str | None = None
    view: str | None = None


class Change(Outbound):
    """An event of the change stream: `change`, what a client should read again, or `alive`, that nothing has changed.

    Attributes:
        views: Names of lists that have changed: workers, sites, queues, jobs, tokens, audit. Absent in `alive`.
        as_of: When what the lists show was last known to be current.
    """

    views: tuple[str, ...] = ()
    as_of: Instant
