"""Operators and producers: access tokens, roles, and what a caller may see and do."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.ids import OptionalReason, QueueName, SiteName, TokenName

MAX_SCOPE_NAMES = 100
TOKEN_ID_CHARS = 12
"""So much of its hash names a token in lists, calls and the audit."""


class Role(StrEnum):
    """What a caller may do. Each role of operators includes those before it; a producer is no operator."""

    PRODUCER = "producer"
    """Submits jobs to some queues, reads, lists and cancels submitted jobs there, and nothing else."""
    VIEWER = "viewer"
    """Reads everything except secrets."""
    OPERATOR = "operator"
    """Changes what can be undone: availability, queues, slots, labels, jobs, parked jobs."""
    ADMIN = "admin"
    """Creates and revokes tokens and credentials, removes workers, changes settings of queues."""

    def includes(self, needed: "Role") -> bool:
        """Whether this role may do what the other one may."""
        if Role.PRODUCER in {self, needed}:
            return self is needed
        order = tuple(Role)
        return order.index(self) >= order.index(needed)

    @property
    def may_submit(self) -> bool:
        """Whether this role may submit and cancel jobs through the producers' API; a viewer may read there."""
        return self is Role.PRODUCER or self.includes(Role.OPERATOR)


OPERATOR_ROLES: tuple[Role, ...] = tuple(role for role in Role if role is not Role.PRODUCER)
"""From the least rights to the most."""


class AccessScope(Outbound):
    """The part of the fleet that a caller may see and change.

    Attributes:
        sites: None for all. A caller with some sites sees their workers only.
        queues: None for all. A caller with some queues sees their jobs only.
    """

    sites: tuple[SiteName, ...] | None = None
    queues: tuple[QueueName, ...] | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.sites is None and self.queues is None

    def has_site(self, site: str) -> bool:
        """Whether the caller may see and change workers of this site."""
        return self.sites is None or site in self.sites

    def has_queue(self, queue: str) -> bool:
        """Whether the caller may see and change jobs of this queue."""
        return self.queues is None or queue in self.queues


class AccessTokenEntry(Outbound):
    """An access token of an operator or a producer; kept in `edge_access` under `access.<hash>`.

    Attributes:
        role: Tokens of older versions have none stored and may do everything.
        expires_at: None if it does not expire.
        last_used_at: To within an hour.
        for_airflow: Its owner is an Airflow api-server, which names the user it calls for; see `ACTING_FOR_HEADER`.
    """

    name: str
    role: Role = Role.ADMIN
    scope: AccessScope = AccessScope()
    created_at: Instant
    expires_at: Instant | None = None
    revoked_at: Instant | None = None
    last_used_at: Instant | None = None
    for_airflow: bool = False


class AccessTokenRequest(Inbound):
    """Asks for an access token.

    Attributes:
        sites: Not for a producer: a job that waits belongs to no site.
        queues: A producer needs at least one.
        ttl_s: Seconds until it expires; None for never.
    """

    name: TokenName
    role: Role = Role.VIEWER
    sites: tuple[SiteName, ...] | None = Field(default=None, min_length=1, max_length=MAX_SCOPE_NAMES)
    queues: tuple[QueueName, ...] | None = Field(default=None, min_length=1, max_length=MAX_SCOPE_NAMES)
    ttl_s: int | None = Field(default=90 * 86400, ge=60, le=3660 * 86400)
    for_airflow: bool = False
    reason: OptionalReason = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.role is Role.PRODUCER and (not self.queues or self.sites is not None or self.for_airflow):
            raise PydanticCustomError("producer", "a producer needs queues, has no sites and does not act for Airflow")
        return self


class AccessToken(Outbound):
    """A new access token; it is shown once and only its hash is kept."""

    id: str
    token: str
    name: str
    role: Role
    scope: AccessScope = AccessScope()
    expires_at: Instant | None = None


class AccessTokenRow(Outbound):
    """An access token in a list.

    Attributes:
        id: The beginning of the hash of the token; names it in calls.
    """

    id: str
    name: str
    role: Role
    scope: AccessScope
    created_at: Instant
    expires_at: Instant | None = None
    revoked_at: Instant | None = None
    last_used_at: Instant | None = None
    for_airflow: bool = False


class EnrollTokenRow(Outbound):
    """An enrolment token in a list.

    Attributes:
        id: The beginning of the hash of the token; names it in calls.
        workers: That have enrolled with it.
    """

    id: str
    site: SiteName
    queues: tuple[QueueName, ...]
    team: str | None = None
    uses: int
    used: int
    workers: tuple[str, ...] = ()
    expires_at: Instant
    revoked_at: Instant | None = None


class SignedInBy(StrEnum):
    """How a caller has shown who they are."""

    TOKEN = "token"  # noqa: S105
    OIDC = "oidc"
    AIRFLOW = "airflow"


class Session(Outbound):
    """Who the caller is and what they may do.

    Attributes:
        expires_at: When the caller must sign in again; None for a token that does not expire.
        csrf: To be sent as `CSRF_HEADER` with each change by a browser that signed in by cookie; else None.
        airflow_url: Airflow's address for links to DAGs and tasks, if the relay knows it.
        relay: The replica that answered.
        version: The relay's.
    """

    name: str
    role: Role
    scope: AccessScope = AccessScope()
    by: SignedInBy
    expires_at: Instant | None = None
    csrf: str | None = None
    airflow_url: str | None = None
    relay: str
    version: str


class SignInRequest(Inbound):
    """Trades an access token for a session cookie."""

    token: str = Field(max_length=4096)


class SignInMethods(Outbound):
    """How a person can sign in here; told to everyone.

    Attributes:
        oidc: The name of the identity provider, for the button; None if none is set.
    """

    token: bool = True
    oidc: str | None = None
