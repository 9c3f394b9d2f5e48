"""What is stored of a worker's polls in `edge_workers`, and what relays report to keepers and executors."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import JobId, QueueName, TeamName, WorkerName
from edge_schemas.wire.worker_report import StoredHealth, StoredJobReport, StoredVersions

_LAST = datetime(9999, 1, 1, tzinfo=UTC)
"""Seconds can be added to every time before it."""


class AgentSeen(Outbound):
    """An agent as of one of its polls. Of two polls the one with the higher `(incarnation, seq)` is newer.

    Attributes:
        arrival: A random id that the relay gives each arriving poll.
        address: The peer's address at the relay; it may be that of a proxy or a load balancer.
        key_hash: Of the value that the agent keeps in memory only; see `routes.AGENT_HEADER`.
        left: The connection was closed before the poll was answered: no poll of this agent is parked.
    """

    instance: str
    incarnation: int
    seq: int
    arrival: str
    host: str
    address: str
    last_poll_at: Instant
    key_hash: str | None = None
    left: bool = False


class CredentialConflict(Outbound):
    """Two agents use one worker's credential at the same time: the state folder was copied.

    Both keep the jobs they have, and no job is given up because one of them lacks it. The newer one gets no jobs until
    an operator decides.
    """

    older: AgentSeen
    newer: AgentSeen
    since: Instant


class WorkerEntry(Outbound):
    """What is known from a worker's last poll; its value in `edge_workers`.

    Attributes:
        agent: The sender. A parked poll is superseded once the entry has another arrival of its incarnation.
        predecessors: Earlier agents that may still run; none has polled since `taken_over_at`.
        conflict: Two agents use the credential.
        relay: The replica that received it.
        poll_timeout_s: How long it may wait for its answer.
        no_jobs_reason: See `Poll`.
        auxiliary: See `Poll`.
        kinds: See `Poll`; what an older worker did not report.
        queues: Those that its credential gives access to; None in an entry that an older relay wrote.
        settings_version: Of the settings that the worker has applied; None in an entry that an older relay wrote.
    """

    worker: WorkerName
    site: str
    team: TeamName | None = None
    queues: tuple[QueueName, ...] | None = None
    settings_version: int | None = None
    agent: AgentSeen
    predecessors: tuple[AgentSeen, ...] = ()
    taken_over_at: Instant | None = None
    conflict: CredentialConflict | None = None
    relay: str
    poll_timeout_s: float
    slots: int
    free: int
    draining: bool
    no_jobs_reason: str | None = None
    auxiliary: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("task",)
    jobs: tuple[StoredJobReport, ...]
    versions: StoredVersions
    health: StoredHealth


class NamedJob(Outbound):
    """What each version reads of a `StoredJobReport`."""

    id: JobId


class Arrival(Outbound):
    """What each version reads of an `AgentSeen`."""

    arrival: str
    last_poll_at: Instant


class WorkerContact(Outbound):
    """What each version reads of a `WorkerEntry`, however much a later version has changed the rest.

    A keeper needs no more to know that a worker is not silent.
    """

    agent: Arrival
    relay: str
    jobs: tuple[NamedJob, ...]


class RelayBeat(Outbound):
    """A replica reports that workers can reach it; sent on `RELAY_BEATS` every `RELAY_BEAT_S`.

    Attributes:
        serving_since: Since when it has served workers and been connected to the broker, without interruption; its
            clock has not been set by more than `CLOCK_STEP_S` since.
        at: What its clock showed when it sent this.
    """

    relay: str
    serving_since: Instant
    at: Annotated[Instant, Field(lt=_LAST)]


RELAY_BEAT_S = 2.0
CLOCK_STEP_S = 1.0
"""A relay whose clock is set by more than this begins its service again; see `RelayBeat`."""


class QueueDemand(Outbound):
    """How many jobs of a kind in a queue the polls parked at a replica would take.

    Attributes:
        consumer: The name of their consumer.
        free_slots: A slot that waits at several queues counts at each.
    """

    consumer: str
    free_slots: int


class RelayDemand(Outbound):
    """The free slots that wait at a replica; sent on `RELAY_DEMAND` every `RELAY_BEAT_S`, and when they have changed.

    Attributes:
        queues: Those with a free slot.
    """

    relay: str
    queues: tuple[QueueDemand, ...]
