"""Why a job waits: causes, most important first."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from edge_schemas.life.model import JobState
from edge_schemas.wire.base import Instant, Outbound


class CauseCode(StrEnum):
    """Stable names of causes."""

    NO_WORKER = "no_worker"
    ALL_FULL = "all_full"
    TOO_FEW_SLOTS = "too_few_slots"
    WORKER_PAUSED = "worker_paused"
    SITE_PAUSED = "site_paused"
    QUEUE_PAUSED = "queue_paused"
    WORKER_UNHEALTHY = "worker_unhealthy"
    SITE_OFFLINE = "site_offline"
    WORKER_OFFLINE = "worker_offline"
    CREDENTIAL_CONFLICT = "credential_conflict"
    VERSION_REFUSED = "version_refused"
    KIND_REFUSED = "kind_refused"
    QUEUE_LIMIT = "queue_limit"
    NOT_PUBLISHED = "not_published"
    HELD_BACK = "held_back"
    BEHIND_OTHERS = "behind_others"
    DELAYED = "delayed"
    BEHIND_GROUP = "behind_group"
    WAITS_AGAIN = "waits_again"
    NEVER_STARTED = "never_started"
    SIGNATURE_REFUSED = "signature_refused"
    BUNDLE_NOT_PUBLISHED = "bundle_not_published"
    PARKED = "parked"
    STARTING = "starting"
    NOT_QUEUED_PARALLELISM = "not_queued_parallelism"
    NOT_QUEUED_POOL = "not_queued_pool"
    NOT_QUEUED_LIMIT = "not_queued_limit"
    NOT_QUEUED_DEPENDENCIES = "not_queued_dependencies"
    NOT_QUEUED_SCHEDULER = "not_queued_scheduler"
    NOT_AT_THE_EDGE = "not_at_the_edge"
    RUNS = "runs"
    STOPS = "stops"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Cause(Outbound):
    """One cause.

    Attributes:
        text: A sentence for people: who, what, since when, what to do.
        facts: The names and numbers in it.
    """

    code: CauseCode
    text: str
    since: Instant | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


class WhyAnswer(Outbound):
    """Why a job, or a task instance, has not started; or what became of it.

    Attributes:
        job: None for a task instance that has no job.
        task: `dag.task` with map index, run and try.
        airflow_state: As Airflow's database has it, if it was asked.
        causes: Never empty.
    """

    job: str | None = None
    task: str | None = None
    queue: str | None = None
    state: JobState | None = None
    airflow_state: str | None = None
    waits_since: Instant | None = None
    causes: tuple[Cause, ...]
    as_of: Instant
