"""Every stream, bucket, subject and header name once, with the limits that go with them. Relay and bridge only.

Operators see these names in the `nats` command line.
"""

from typing import NamedTuple

from edge_schemas.wire.ids import decode_name, encode_name
from edge_schemas.wire.jobs import JobKind

JOBS = "EDGE_JOBS"
LOGS = "EDGE_LOGS"
DEAD = "EDGE_DEAD"
AUDIT = "EDGE_AUDIT"
BUNDLES = "EDGE_BUNDLES"
RECORDS_BUCKET = "edge_jobs"
ENDED_BUCKET = "edge_jobs_ended"
"""Sorts behind `edge_jobs`: a backup copies the streams in this order, and a record that moves meanwhile is in one."""
ENDED_INDEX_BUCKET = "edge_jobs_ended_index"
"""The ended jobs of producers by queue and label; see `ended_index`."""
WORKERS_BUCKET = "edge_workers"
ACCESS_BUCKET = "edge_access"
DESIRED_BUCKET = "edge_desired"
BUNDLES_BUCKET = "edge_bundles"
"""Which versions of bundles are published; see `bundles.keys`."""
POLICIES_BUCKET = "edge_policies"
"""What jobs may use of Airflow, by queue and site. No relay may write it."""
ACCESSES_BUCKET = "edge_accesses"
"""What jobs used, by queue or site and day. No relay may write it."""

NO_TEAM = "-"
NOTICES = "edge.notices"
"""Core NATS, no stream: a notice only wakes its receiver, which then reads the state."""
RELAY_BEATS = f"{NOTICES}.relay"
"""Each replica reports here that workers can reach it; see `worker_entry.RelayBeat`."""
RELAY_DEMAND = f"{NOTICES}.demand"
"""Each replica reports here how many jobs its parked polls would take; see `worker_entry.RelayDemand`."""
OFFSET_HEADER = "Edge-Offset"
"""On a message of `EDGE_LOGS`: where its bytes begin in the job's log."""
HOLDER_HEADER = "Edge-Holder"
"""On a message of `EDGE_LOGS`: where in the job's log the file of this holder begins, and an id of the holder.

A job that was given up before user code ran has a second holder with a log file of its own, which follows the first.
"""


WAITING_SUFFIX = "-waiting"
"""Behind the job in the subject of the lines about a job that waits."""
WAITING_HEADER = "Edge-Waiting"
"""On a line about a job that waits: how many such lines there are with this one, and its main cause."""


class JobSubject(NamedTuple):
    """What the subject of a waiting job's message names."""

    team: str | None
    queue: str
    kind: JobKind
    job: str


def job_subject(team: str | None, queue: str, kind: JobKind, job: str) -> str:
    """The subject of a waiting job's message. Each kind but tasks has a part of its own."""
    return f"edge.jobs.{_team_token(team)}.{encode_name(queue)}.{_kind_tokens(kind)}{job}"


def queue_filter(team: str | None, queue: str) -> str:
    """All waiting jobs of a queue."""
    return f"edge.jobs.{_team_token(team)}.{encode_name(queue)}.>"


def kind_filter(team: str | None, queue: str, kind: JobKind) -> str:
    """All waiting jobs of a kind in a queue."""
    return job_subject(team, queue, kind, "*")


def queue_token(team: str | None, queue: str) -> str:
    """A queue as one token, for keys and names of consumers: its name, after its team's if it has one."""
    return encode_name(queue) if team is None else f"{encode_name(team)}__{encode_name(queue)}"


def parse_queue_token(token: str) -> tuple[str | None, str]:
    """Team and queue of a token that `queue_token` made.

    Raises:
        ValueError: It has another form.
    """
    # In an encoded name two hexadecimal digits follow each `_`.
    team, apart, queue = token.partition("__")
    return (decode_name(team), decode_name(queue)) if apart else (None, decode_name(token))


def consumer_of(queue: str, kind: JobKind) -> str:
    """The durable consumer of the jobs of a kind in a queue, by the queue's token. That of tasks has the queue's name.

    No encoded name contains a `=`.
    """
    return queue if kind is JobKind.TASK else f"{queue}={kind}"


def consumer_name(team: str | None, queue: str, kind: JobKind) -> str:
    """The durable consumer of the jobs of a kind in a queue."""
    return consumer_of(queue_token(team, queue), kind)


def parse_consumer_name(name: str) -> tuple[str, JobKind]:
    """Queue, as a token, and kind of a consumer that `consumer_name` named.

    Raises:
        ValueError: It is of no known kind.
    """
    queue, apart, kind = name.partition("=")
    return queue, JobKind(kind) if apart else JobKind.TASK


def parse_job_subject(subject: str) -> JobSubject:
    """What a subject names that `job_subject` made.

    Raises:
        ValueError: It has another form.
    """
    prefix, jobs, team, queue, *kinds, job = subject.split(".")
    if (prefix, jobs) != ("edge", "jobs") or len(kinds) > 1 or JobKind.TASK in kinds:
        msg = f"{subject!r} is no subject of a job"
        raise ValueError(msg)
    kind = JobKind(kinds[0]) if kinds else JobKind.TASK
    return JobSubject(None if team == NO_TEAM else decode_name(team), decode_name(queue), kind, job)


def log_subject(ti_id: str, try_number: int, job: str) -> str:
    """The log of one job. A try that was deferred and resumed has several jobs, hence several logs."""
    return f"edge.logs.{ti_id}.{try_number}.{job}"


def log_filter(ti_id: str, try_number: int) -> str:
    """All logs of one try of a task instance."""
    return f"edge.logs.{ti_id}.{try_number}.*"


def waiting_log_subject(ti_id: str, try_number: int, job: str) -> str:
    """The lines about a job that waits. `log_filter` matches them, so they are in the log of the try.

    They are apart from the log of the job, which only its holder continues.
    """
    return f"{log_subject(ti_id, try_number, job)}{WAITING_SUFFIX}"


def dead_subject(team: str | None, queue: str, job: str) -> str:
    """The history of a parked job."""
    return f"edge.dead.{_team_token(team)}.{encode_name(queue)}.{job}"


def audit_subject(kind: str, target: str, action: str) -> str:
    """Who did what; `*` stands for all of a part.

    Args:
        kind: What it is about.
        target: Its name or id.
        action: What was done.
    """
    return f"edge.audit.{kind}.{target if target == '*' else encode_name(target)}.{action}"


def piece_subject(digest: str) -> str:
    """A piece of published bundles, with the beginning of its digest apart: pieces are listed in parts."""
    return f"edge.bundles.piece.{digest[:2]}.{digest}"


def pieces_filter(beginning: str) -> str:
    """All pieces whose digests begin with these two characters."""
    return f"edge.bundles.piece.{beginning}.*"


def manifest_subject(digest: str) -> str:
    """The manifest of a published version; `*` for all of them."""
    return f"edge.bundles.manifest.{digest}"


def kv_stream(bucket: str) -> str:
    """The stream behind a bucket."""
    return f"KV_{bucket}"


def kv_subject(bucket: str, key: str) -> str:
    """The subject of a key; `>` for all of them."""
    return f"$KV.{bucket}.{key}"


def worker_notice(worker: str) -> str:
    """Wakes the parked poll of a worker."""
    return f"{NOTICES}.worker.{worker}"


def log_notice(job: str) -> str:
    """Reports that the log of a submitted job has grown."""
    return f"{NOTICES}.log.{job}"


def queue_notice(consumer: str) -> str:
    """Reports that the consumer of a queue was made."""
    return f"{NOTICES}.queue.{consumer}"


def _team_token(team: str | None) -> str:
    return NO_TEAM if team is None else encode_name(team)


def _kind_tokens(kind: JobKind) -> str:
    return "" if kind is JobKind.TASK else f"{kind}."
