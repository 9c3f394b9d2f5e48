"""Actions on the credentials of workers: rotate, revoke, remove, and decide between two agents with one credential."""

from edge_relay.actions.order import NOTHING, Changed, Order, event_of, target_of
from edge_relay.desired.store import DesiredStore
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.rotation import SecretRotation, asked_to_rotate
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.admin.actions import ResolveConflict, WorkerAction
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import WorkerAccess


class WorkerCredentialActions:
    """What operators do to credentials; repeats change nothing."""

    def __init__(
        self,
        enrollments: EnrollmentStore,
        rotation: SecretRotation,
        credentials: Credentials,
        entries: WorkerStore,
        desired: DesiredStore,
    ) -> None:
        self._enrollments = enrollments
        self._rotation = rotation
        self._credentials = credentials
        self._entries = entries
        self._desired = desired

    async def rotate(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        """Ask a worker for a new secret. While it has not made one, a repeat changes nothing."""
        if order.dry_run:
            return _rotations(access, asked_to_rotate(access))

        def describe(before: WorkerAccess, after: WorkerAccess) -> AuditEvent:
            return event_of(order, action.do, target_of(access), _rotations(before, after))

        found = _rotations(*await self._rotation.request(access.secret_hash, describe))
        await self._credentials.announce(access.secret_hash)
        return found

    async def remove(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        """Remove a revoked worker from all lists; its name becomes free, its credential stays refused.

        The mark comes late and the name last: a repeat finds the worker, and completes what was interrupted.
        """
        if access.revoked_at is None:
            raise EdgeError(ErrorCode.WRONG_STATE, f"{access.worker} is not revoked: revoke it first")
        found = Changed({"removed": False}, {"removed": True})
        if not order.dry_run:
            await self._rotation.forget(access)
            await self._desired.forget_worker(access.worker)
            await self._entries.forget(access.worker)
            event = event_of(order, action.do, target_of(access), found)
            await self._enrollments.remove(access.secret_hash, now=order.at, event=event)
            await self._credentials.announce(access.secret_hash)
            await self._enrollments.free_name(access)
        return found

    async def revoke(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        """End a worker's credential, for good."""
        found = Changed({"revoked": False}, {"revoked": True})
        if order.dry_run:
            return found if access.revoked_at is None else NOTHING
        event = event_of(order, action.do, target_of(access), found)
        # Also a repeat is announced: the first call may have ended before it was.
        was_active = await self._enrollments.revoke(access.secret_hash, now=order.at, event=event)
        await self._credentials.announce(access.secret_hash)
        return found if was_active else NOTHING

    async def resolve(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        """Decide which of two agents is the worker."""
        keep = action.keep if isinstance(action, ResolveConflict) else "older"
        found = Changed({"in_conflict": True}, {"in_conflict": False, "kept": keep})
        if order.dry_run:
            entry = await self._entries.get(access.worker)
            was_in_conflict = entry is not None and entry.conflict is not None
        else:
            event = event_of(order, action.do, target_of(access), found)
            was_in_conflict = await self._entries.resolve_conflict(
                access.worker, keep_newer=keep == "newer", event=event
            )
        return found if was_in_conflict else NOTHING


def _rotations(before: WorkerAccess, after: WorkerAccess) -> Changed:
    return Changed({"rotation": before.settings.rotation}, {"rotation": after.settings.rotation})
