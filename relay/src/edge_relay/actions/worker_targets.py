"""The workers that an action is about: by name or by filter, within the operator's scope."""

from collections.abc import Iterator

from edge_relay.actions.worker_filter import WorkerTraits, matches
from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.queue_rights import QueueRights
from edge_relay.metrics.fleet import Fleet
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.actions import MAX_TARGETS, WorkerActionRequest, WorkerFilter
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import WorkerAccess, WorkerState


class WorkerTargets:
    """Finds workers."""

    def __init__(
        self, credentials: Credentials, desired: DesiredState, fleet: Fleet, enrollments: EnrollmentStore
    ) -> None:
        self._credentials = credentials
        self._desired = desired
        self._fleet = fleet
        self._enrollments = enrollments

    def named(self, request: WorkerActionRequest, scope: AccessScope) -> list[str]:
        """The names of the workers that a request is about.

        Raises:
            EdgeError: `invalid_request`.
        """
        if [request.workers is not None, request.where is not None, request.all].count(True) != 1:
            raise EdgeError(ErrorCode.INVALID_REQUEST, "give one of workers, where and all")
        if request.workers is not None:
            return list(dict.fromkeys(request.workers))
        where = request.where or WorkerFilter()
        if not request.all and where == WorkerFilter():
            raise EdgeError(ErrorCode.INVALID_REQUEST, "where: give at least one field, or all: true instead")
        found = sorted(self._selected(where, scope))
        if len(found) > MAX_TARGETS:
            raise EdgeError(ErrorCode.INVALID_REQUEST, f"{len(found)} workers are selected, more than {MAX_TARGETS}")
        return found

    def by_name(self) -> dict[str, WorkerAccess]:
        """All workers that this replica knows; of two credentials of one worker, the one that is valid."""
        found: dict[str, WorkerAccess] = {}
        for access in self._credentials.workers():
            known = found.get(access.worker)
            if known is None or known.revoked_at is not None:
                found[access.worker] = access
        return found

    def queue_rights(self, scope: AccessScope) -> QueueRights:
        """Which queues an operator with this scope may give to workers."""
        return QueueRights(self._credentials, scope)

    async def require(self, worker: str, known: dict[str, WorkerAccess], scope: AccessScope) -> WorkerAccess:
        """A worker by its name; another replica may just have enrolled it.

        Args:
            worker: Its name.
            known: From `by_name`.
            scope: Of the operator.

        Raises:
            EdgeError: `not_found`; `forbidden`: it serves queues that are not the operator's.
            BrokerUnavailable: It is unknown here, and the broker can't be asked.
        """
        access = known.get(worker) or await self._read(worker)
        if access is None or not self._is_visible(access, scope):
            raise EdgeError(
                ErrorCode.NOT_FOUND, f"there is no worker {worker}: 'edge-relay workers list' shows all names"
            )
        others = [queue for queue in self._credentials.settings(access).queues if not scope.has_queue(queue)]
        if others:
            raise EdgeError(ErrorCode.FORBIDDEN, f"{worker} also serves queues that are outside your scope")
        return access

    def _selected(self, where: WorkerFilter, scope: AccessScope) -> Iterator[str]:
        for access in self.by_name().values():
            if self._is_visible(access, scope):
                traits = self._traits(access)
                is_wanted = traits.state is not WorkerState.REVOKED or where.state is WorkerState.REVOKED
                if is_wanted and matches(traits, where):
                    yield access.worker

    def _traits(self, access: WorkerAccess) -> WorkerTraits:
        return WorkerTraits(
            worker=access.worker,
            site=access.site,
            queues=self._credentials.settings(access).queues,
            state=self._fleet.state(access),
            host=access.hostname,
            labels=self._desired.worker(access.worker).labels,
        )

    def _is_visible(self, access: WorkerAccess, scope: AccessScope) -> bool:
        serves = any(scope.has_queue(queue) for queue in self._credentials.settings(access).queues)
        return scope.has_site(access.site) and serves

    async def _read(self, worker: str) -> WorkerAccess | None:
        secret_hash = await self._enrollments.secret_hash(worker)
        if secret_hash is None:
            return None
        await self._credentials.refresh(secret_hash)
        return self._credentials.access(secret_hash)
