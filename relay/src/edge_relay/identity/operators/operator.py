"""An operator: who calls `/v1/admin`, what they may do, and to which part of the fleet."""

from dataclasses import dataclass
from datetime import datetime

from edge_schemas.admin.access import AccessScope, Role, SignedInBy
from edge_schemas.admin.audit import Actor, ActorKind
from edge_schemas.wire.errors import EdgeError, ErrorCode


@dataclass(frozen=True, slots=True)
class Operator:
    """The caller of an operators' call.

    Attributes:
        by: How they have signed in.
        address: Where the call came from.
        expires_at: When they must sign in again, if ever.
        token: The name of the access token with which Airflow's api-server calls for them.
    """

    name: str
    role: Role
    scope: AccessScope
    by: SignedInBy
    address: str
    expires_at: datetime | None = None
    token: str | None = None

    def require(self, needed: Role) -> None:
        """Refuse a caller who may do less.

        Raises:
            EdgeError: `forbidden`.
        """
        if not self.role.includes(needed):
            raise EdgeError(ErrorCode.FORBIDDEN, f"this needs the role {needed}; {self.name} has the role {self.role}")

    def require_everything(self) -> None:
        """Refuse a caller who is limited to some sites or queues.

        Raises:
            EdgeError: `forbidden`.
        """
        if not self.scope.is_everything:
            raise EdgeError(ErrorCode.FORBIDDEN, f"{self.name} is limited to some sites or queues")

    @property
    def owner(self) -> str:
        """Who counts for limits: a token by its name, however often it is used, a person, or an Airflow user."""
        return f"{self.by} {self.token or ''} {self.name}"

    @property
    def actor(self) -> Actor:
        """For the audit."""
        kind = ActorKind.PRODUCER if self.role is Role.PRODUCER else ActorKind.OPERATOR
        return Actor(kind=kind, name=self.name, by=self.by, token=self.token, address=self.address)
