"""A submission becomes a job, without I/O: its id, its terms, and the digest by which a reused key is noticed."""

import hashlib
import json
import uuid
from datetime import datetime, timedelta

from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.producers.submissions import MAX_NAME_CHARS, Submission
from edge_schemas.wire.content import Content
from edge_schemas.wire.jobs import CommandWork, Job, JobTerms, PayloadWork
from edge_schemas.wire.offline import DEFAULT_TOLERANCE_S, OfflinePolicy

_KEYS = uuid.UUID("6f0d1c52-5d1e-5a5b-9a35-0c1b1d6e8f11")
"""The namespace of jobs with an idempotency key. It never changes: with another one, no key would be found again."""


def job_id(queue: str, key: str | None) -> str:
    """The id of a job: of one with a key the same each time."""
    # A queue's name has no line breaks.
    return str(uuid.uuid4() if key is None else uuid.uuid5(_KEYS, f"{queue}\n{key}"))


def digest(submission: Submission) -> str:
    """What two submissions with one key must share. A field with its default counts as left out."""
    shown = submission.model_dump(mode="json", exclude={"key"}, exclude_defaults=True)
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def make_record(
    submission: Submission, queue: str, *, producer: str, desired: DesiredQueue, now: datetime
) -> JobRecord:
    """The record of a new job, with the defaults of what its producer left out."""
    ttl_s = submission.ttl_s or desired.timeout_s
    terms = JobTerms(
        kind=submission.kind,
        name=submission.name or _name(submission),
        producer=producer,
        priority=submission.priority,
        on_lost=submission.when_lost,
        max_attempts=submission.attempts,
        expires_at=None if ttl_s is None else now + timedelta(seconds=ttl_s),
        group=submission.group,
        labels=submission.labels,
        digest=digest(submission),
    )
    tolerance_s = submission.offline_tolerance_s or desired.tolerance_s or DEFAULT_TOLERANCE_S
    job = Job(
        id=job_id(queue, submission.key),
        queue=queue,
        work=_work(submission),
        terms=terms,
        offline=OfflinePolicy(tolerance_s=tolerance_s),
        published_at=now,
    )
    not_before = now + timedelta(seconds=submission.delay_s) if submission.delay_s else None
    return new_record(job, not_before=not_before)


def _work(submission: Submission) -> CommandWork | PayloadWork:
    """As the wire has it: what was sent may be of a class with stricter checks."""
    if submission.command is not None:
        return CommandWork(**submission.command.model_dump())
    assert submission.payload is not None  # noqa: S101  # a submission has one of the two
    return PayloadWork(payload=Content(**submission.payload.model_dump()))


def _name(submission: Submission) -> str:
    """The program alone: arguments may be secrets, and a name is shown in lists."""
    if submission.command is None:
        return "payload"
    program = "".join(char for char in submission.command.argv[0].rpartition("/")[2] if char.isprintable())
    return program.strip()[:MAX_NAME_CHARS] or "command"
