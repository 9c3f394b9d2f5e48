"""Actions on the credentials of workers: revoke them, and decide which of two agents with one credential counts."""

from edge_relay.actions.order import Changed, Order
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.admin.actions import ResolveConflict, WorkerAction
from edge_schemas.wire.workers import WorkerAccess


class WorkerCredentialActions:
    """What operators do to credentials; repeats change nothing."""

    def __init__(self, enrollments: EnrollmentStore, credentials: Credentials, entries: WorkerStore) -> None:
        self._enrollments = enrollments
        self._credentials = credentials
        self._entries = entries

    async def revoke(self, access: WorkerAccess, _: WorkerAction, order: Order) -> Changed:
        """End a worker's credential, for good."""
        was_revoked = access.revoked_at is not None
        if not order.dry_run:
            # Also a repeat is announced: the first call may have ended before it was.
            await self._enrollments.revoke(access.secret_hash, now=order.at)
            await self._credentials.announce(access.secret_hash)
        return Changed({"revoked": was_revoked}, {"revoked": True})

    async def resolve(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        """Decide which of two agents is the worker."""
        keep = action.keep if isinstance(action, ResolveConflict) else "older"
        if order.dry_run:
            entry = await self._entries.get(access.worker)
            was_in_conflict = entry is not None and entry.conflict is not None
        else:
            was_in_conflict = await self._entries.resolve_conflict(access.worker, keep_newer=keep == "newer")
        if not was_in_conflict:
            return Changed({}, {})
        return Changed({"in_conflict": True}, {"in_conflict": False, "kept": keep})
