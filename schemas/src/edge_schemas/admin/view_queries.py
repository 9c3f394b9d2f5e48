"""Query parameters of the operators' lists: filters, order, and which page.

A sort is the name of a column, with `-` in front for descending; rows without a value come last either way.
"""

from typing import Literal

from pydantic import Field

from edge_schemas.admin.actions import SearchText
from edge_schemas.admin.rows import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, SiteState
from edge_schemas.life.model import JobState
from edge_schemas.wire.base import Inbound
from edge_schemas.wire.ids import QueueName, SiteName, TeamName, WorkerName
from edge_schemas.wire.workers import WorkerState

MAX_CURSOR_CHARS = 2000


class PageQuery(Inbound):
    """What all lists accept.

    Attributes:
        cursor: `next` of the page before; with the same sort.
        limit: The most rows of the page.
    """

    cursor: str | None = Field(default=None, max_length=MAX_CURSOR_CHARS)
    limit: int = Field(default=DEFAULT_PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS)


WorkerSort = Literal[
    "worker",
    "-worker",
    "site",
    "-site",
    "state",
    "-state",
    "last_poll_at",
    "-last_poll_at",
    "enrolled_at",
    "-enrolled_at",
    "hostname",
    "-hostname",
    "slots",
    "-slots",
    "free",
    "-free",
    "running",
    "-running",
]
SiteSort = Literal[
    "site",
    "-site",
    "state",
    "-state",
    "since",
    "-since",
    "workers",
    "-workers",
    "online",
    "-online",
    "offline",
    "-offline",
    "slots",
    "-slots",
    "running",
    "-running",
]
QueueSort = Literal[
    "queue",
    "-queue",
    "held_back",
    "-held_back",
    "waiting",
    "-waiting",
    "granted",
    "-granted",
    "running",
    "-running",
    "oldest_at",
    "-oldest_at",
    "dead",
    "-dead",
    "workers",
    "-workers",
    "free_slots",
    "-free_slots",
]
JobSort = Literal[
    "created_at",
    "-created_at",
    "waits_since",
    "-waits_since",
    "started_at",
    "-started_at",
    "ended_at",
    "-ended_at",
    "queue",
    "-queue",
    "state",
    "-state",
    "task",
    "-task",
    "worker",
    "-worker",
]


class WorkerQuery(PageQuery):
    """Which workers.

    Attributes:
        label: `key=value`, or `key` for any value.
        text: Part of the name, the site, the host or a label; upper and lower case are the same.
    """

    site: SiteName | None = None
    queue: QueueName | None = None
    state: WorkerState | None = None
    label: SearchText | None = None
    text: SearchText | None = None
    sort: WorkerSort = "worker"


class SiteQuery(PageQuery):
    """Which sites.

    Attributes:
        text: Part of the name.
    """

    state: SiteState | None = None
    text: SearchText | None = None
    sort: SiteSort = "site"


class QueueQuery(PageQuery):
    """Which queues.

    Attributes:
        text: Part of the name.
    """

    queue: QueueName | None = None
    team: TeamName | None = None
    text: SearchText | None = None
    sort: QueueSort = "queue"


class JobQuery(PageQuery):
    """Which jobs.

    Attributes:
        parked: Only parked jobs, or only others.
        ended: Jobs that have ended, the newest first; `sort` must be `-ended_at` then, its default.
        text: Part of the id or the task.
        sort: None for `created_at`, or for `-ended_at` with `ended`.
    """

    queue: QueueName | None = None
    state: JobState | None = None
    worker: WorkerName | None = None
    site: SiteName | None = None
    dag_id: str | None = Field(default=None, max_length=250)
    run_id: str | None = Field(default=None, max_length=250)
    parked: bool | None = None
    ended: bool = False
    text: SearchText | None = None
    sort: JobSort | None = None
