"""What is kept of a submitted job: little, as many may wait. Its work is read again when its message is published."""

from dataclasses import dataclass
from datetime import datetime
from sys import intern

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from edge_schemas.life.model import Holder, JobState
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.offline import OfflinePolicy
from edge_upkeep.messages import Line
from edge_upkeep.order.rank import Rank

HELD = frozenset({JobState.RUNNING, JobState.STOPPING})
_DEFAULT_OFFLINE = OfflinePolicy()

GroupKey = tuple[str | None, str, str]
"""Team, queue and group."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A submitted job by a record that may be outdated.

    Attributes:
        waits_since: When this wait began; a message belongs to one wait.
        releases: How often it was released, counted or not.
        was_offered: It has been granted or started since it was submitted or redriven.
        offline: Of a job with a holder.
    """

    id: str
    team: str | None
    queue: str
    kind: JobKind
    state: JobState
    is_parked: bool
    priority: int
    group: str | None
    published_at: datetime
    waits_since: datetime
    not_before: datetime | None
    expires_at: datetime | None
    attempt: int
    releases: int
    was_offered: bool
    holder: Holder | None
    offline: OfflinePolicy

    @property
    def may_have_message(self) -> bool:
        """Whether it waits for a worker and not for an operator."""
        return self.state is JobState.WAITING and not self.is_parked

    @property
    def line(self) -> Line:
        """Where it waits."""
        return self.team, self.queue, self.kind

    @property
    def message_id(self) -> str:
        """The same for all replicas, so that a message is stored once."""
        return message_id(self.id, self.attempt, self.waits_since)

    @property
    def group_key(self) -> GroupKey | None:
        """None if it is in no group."""
        return None if self.group is None else (self.team, self.queue, self.group)


def message_id(job: str, attempt: int, waits_since: datetime) -> str:
    """The id of the message for one wait of a job.

    Args:
        job: Its id.
        attempt: How often it was started. A redrive begins to count again, so it does not suffice.
        waits_since: When the wait began.
    """
    return f"{job}.{attempt + 1}.{int(waits_since.timestamp() * 1000)}"


def rank_of(job: SubmittedJob) -> Rank:
    """By descending priority, then first come, first served. No submitted job is always first."""
    return True, -job.priority, job.published_at


class _Part(BaseModel):
    """A part of a record with the fields that count here."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _Terms(_Part):
    kind: JobKind
    priority: int = 0
    expires_at: AwareDatetime | None = None
    group: str | None = None


class _Record(_Part):
    id: str
    state: JobState
    queue: str
    team: str | None = None
    terms: _Terms | None = None
    created_at: AwareDatetime
    waiting_again_since: AwareDatetime | None = None
    not_before: AwareDatetime | None = None
    attempt: int = 0
    releases: tuple[_Part, ...] = ()
    returned_grants: tuple[str, ...] = ()
    parked: str | None = None
    holder: Holder | None = None
    offline: OfflinePolicy = _DEFAULT_OFFLINE


def submitted_job(job: str, value: bytes) -> SubmittedJob | None:
    """The job of a record as it is stored, ended or not; None for a job of Airflow, and if it can't be read."""
    try:
        record = _Record.model_validate_json(value)
    except ValidationError:
        return None  # the mirror of the records has reported it
    if record.terms is None or record.id != job:
        return None
    is_redriven = record.waiting_again_since is not None and not record.attempt and not record.releases
    return SubmittedJob(
        id=job,
        team=None if record.team is None else intern(record.team),
        queue=intern(record.queue),
        kind=record.terms.kind,
        state=record.state,
        is_parked=record.parked is not None,
        priority=record.terms.priority,
        group=None if record.terms.group is None else intern(record.terms.group),
        published_at=record.created_at,
        waits_since=record.waiting_again_since or record.created_at,
        not_before=record.not_before,
        expires_at=record.terms.expires_at,
        attempt=record.attempt,
        releases=len(record.releases) + len(record.returned_grants),
        was_offered=not is_redriven and bool(record.attempt or record.releases or record.returned_grants),
        holder=record.holder,
        offline=_DEFAULT_OFFLINE if record.holder is None else record.offline,
    )
