"""Which queues an operator may give to workers.

Who gives a worker a queue sees what waits there. So an operator who is limited to sites, and not to queues, can't give
a queue that is new to these sites: this would widen what they may see.
"""

from collections.abc import Iterable
from functools import cached_property

from edge_relay.identity.credentials import Credentials
from edge_schemas.admin.access import AccessScope
from edge_schemas.wire.errors import EdgeError, ErrorCode


class QueueRights:
    """The rights of one operator, for one call."""

    def __init__(self, credentials: Credentials, scope: AccessScope) -> None:
        self._credentials = credentials
        self._scope = scope

    def check(self, team: str | None, queues: Iterable[str]) -> None:
        """Refuse queues that a worker of this team must not get by this operator.

        Raises:
            EdgeError: `not_found`: a queue outside the operator's scope; `forbidden`: it is new to their sites.
        """
        for queue in queues:
            if not self._scope.has_queue(queue):
                raise EdgeError(ErrorCode.NOT_FOUND, f"there is no queue {queue}")
            if self._is_limited_to_sites and (team, queue) not in self._of_sites:
                text = f"no worker of your sites serves the queue {queue}: an operator for all sites can add it first"
                raise EdgeError(ErrorCode.FORBIDDEN, text)

    @property
    def _is_limited_to_sites(self) -> bool:
        return self._scope.sites is not None and self._scope.queues is None

    @cached_property
    def _of_sites(self) -> frozenset[tuple[str | None, str]]:
        """Team and name of each queue that the sites' workers serve, or were enrolled for."""
        return frozenset(
            (access.team, queue)
            for access in self._credentials.workers()
            if access.revoked_at is None and self._scope.has_site(access.site)
            for queue in (*access.settings.queues, *self._credentials.settings(access).queues)
        )
