"""Enrolment, credentials, and the settings that the centre gives a worker."""

import hashlib
import secrets
from enum import StrEnum

from pydantic import Field

from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.ids import OptionalReason, QueueName, SiteName, TeamName, WorkerName
from edge_schemas.wire.jobs import Signed

HASH_PATTERN = r"^[0-9a-f]{64}$"


class SecretKind(StrEnum):
    """The prefix of a secret shows people and secret scanners what it gives access to."""

    WORKER = "erw_"
    ENROLLMENT = "ere_"
    ACCESS = "era_"


def new_secret(kind: SecretKind) -> str:
    """A fresh 256-bit secret."""
    return kind + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 in hexadecimal: all that is ever stored of a secret. 256 random bits need no salt, no stretching."""
    return hashlib.sha256(secret.encode()).hexdigest()


class EnrollRequest(Inbound):
    """Trades an enrolment token (the call's bearer) for a worker. The secret itself never leaves the worker.

    Attributes:
        airflow: Airflow's version in the worker's runtime; None if it has no runtime yet.
    """

    protocol: int
    secret_hash: str = Field(pattern=HASH_PATTERN)
    hostname: str = Field(default="", max_length=253)
    airflow: str | None = Field(default=None, max_length=120)


class Availability(StrEnum):
    """Whether a worker takes new jobs, as operators want it."""

    ACTIVE = "active"
    PAUSED = "paused"
    """No new jobs."""
    DRAINING = "draining"
    """No new jobs; the agent exits when the jobs that run have ended."""
    STOPPED = "stopped"
    """No new jobs; the jobs that run are stopped, then the agent exits."""


class WorkerSettings(Outbound):
    """Settings from the centre; `version` rises with every change.

    Attributes:
        availability: Its own or its site's, whichever is stricter.
        availability_reason: Why it is not active, and who wants it, for people.
        availability_until: When it becomes active by itself.
        slots: How many jobs it may run at once; None for the worker's own setting.
        rotation: Rises when the worker is to make a new secret.
    """

    version: int
    queues: tuple[QueueName, ...]
    availability: Availability = Availability.ACTIVE
    availability_reason: str | None = None
    availability_until: Instant | None = None
    slots: int | None = None
    rotation: int = 0


class Enrollment(Outbound):
    """The worker's identity. It never chooses its queues, site or team.

    Attributes:
        airflow: Airflow's version at the centre, if a keeper reported it by then.
        signing_keys: The key sets of the centre, the newest last, if a keeper reported them by then.
    """

    worker: WorkerName
    site: SiteName
    team: TeamName | None = None
    settings: WorkerSettings
    airflow: str | None = None
    signing_keys: tuple[Signed, ...] = ()


class EnrollTokenRequest(Inbound):
    """Asks for an enrolment token.

    Attributes:
        uses: How many workers may enrol with it; limited because all uses are kept in one value of at most 1 MiB.
        ttl_s: Seconds until it expires.
    """

    queues: tuple[QueueName, ...] = Field(min_length=1, max_length=100)
    site: SiteName
    team: TeamName | None = None
    uses: int = Field(default=1, ge=1, le=5_000)
    ttl_s: int = Field(default=3600, ge=1, le=366 * 86400)
    reason: OptionalReason = ""


class EnrollToken(Outbound):
    """A new enrolment token; it is shown once and only its hash is kept.

    Attributes:
        command: Enrols a machine with it, in a shell there; holds the token.
    """

    token: str
    site: SiteName
    queues: tuple[QueueName, ...]
    uses: int
    expires_at: Instant
    command: str | None = None


class WorkerState(StrEnum):
    """What an operator has to know of a worker first.

    Offline means that several contacts were missed in a row. Conflict means that two agents use its credential: one of
    them runs on a copy of its state folder. Unhealthy means that it takes no jobs for a reason of its own; paused, that
    an operator wants so.
    """

    NEVER_SEEN = "never seen"
    ONLINE = "online"
    UNHEALTHY = "unhealthy"
    PAUSED = "paused"
    DRAINING = "draining"
    OFFLINE = "offline"
    CONFLICT = "conflict"
    REVOKED = "revoked"


class SecretRequest(Inbound):
    """Registers the hash of a worker's next secret; the call's bearer is the secret that it replaces.

    Attributes:
        rotation: Of the settings that asked for it.
    """

    secret_hash: str = Field(pattern=HASH_PATTERN)
    rotation: int = Field(ge=1)


class WorkerAccess(Outbound):
    """What a worker's secret gives access to; kept in `edge_access` under `worker.<hash>`.

    The hash in its key is that of the secret with which the worker enrolled. It identifies the worker's credential,
    also after the secret was rotated.

    Attributes:
        secret_hash: Of the secret with which the worker enrolled.
        current_hash: Of the secret that is valid now, if it was rotated.
        next_hash: Of the secret that replaces it as soon as it is used.
        next_rotation: The rotation that `next_hash` is for.
        rotated: The last rotation that is complete.
        token_hash: Of the enrolment token that it was enrolled with.
        removed_at: When an operator removed it from all lists. The entry is kept for a time: an enrolment that is
            repeated must not bring the worker back.
    """

    worker: WorkerName
    secret_hash: str
    site: SiteName
    team: TeamName | None = None
    settings: WorkerSettings
    hostname: str = ""
    enrolled_at: Instant
    revoked_at: Instant | None = None
    token_hash: str | None = None
    current_hash: str | None = None
    next_hash: str | None = None
    next_rotation: int | None = None
    rotated: int = 0
    removed_at: Instant | None = None

    @property
    def valid_hash(self) -> str:
        """Of the secret that is valid now."""
        return self.current_hash or self.secret_hash


class SecretAlias(Outbound):
    """Names the credential that a rotated secret belongs to; kept in `edge_access` under `worker.<hash>`.

    Attributes:
        alias_of: The hash in the key of the worker's `WorkerAccess`.
    """

    alias_of: str


class EnrollmentUse(Outbound):
    """A worker that enrolled with a token."""

    secret_hash: str
    worker: WorkerName


class EnrollTokenEntry(Outbound):
    """An enrolment token; kept in `edge_access` under `enroll.<hash>`. The uses are listed, so a repeat is harmless."""

    queues: tuple[QueueName, ...]
    site: SiteName
    team: TeamName | None = None
    uses: int
    expires_at: Instant
    used: tuple[EnrollmentUse, ...] = ()
    revoked_at: Instant | None = None
