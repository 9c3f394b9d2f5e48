"""Actions on workers. `_deeds` names for each action the function that does it."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from pydantic import BaseModel

from edge_broker.subjects import queue_token
from edge_relay.actions.absent_queues import AbsentQueues
from edge_relay.actions.bulk import act_on_all
from edge_relay.actions.changes import changed, describe, with_labels, with_order, with_queues, with_slots
from edge_relay.actions.order import Changed, Order, check_end, target_of
from edge_relay.actions.worker_credentials import WorkerCredentialActions
from edge_relay.actions.worker_targets import WorkerTargets
from edge_relay.desired.state import DesiredState
from edge_relay.desired.store import DesiredStore
from edge_relay.identity.operators.operator import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin import actions
from edge_schemas.admin.access import Role
from edge_schemas.admin.actions import ActionResult, WorkerAction, WorkerActionRequest
from edge_schemas.admin.desired import DesiredWorker
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import WorkerAccess

Deed = Callable[[WorkerAccess, WorkerAction, Order], Awaitable[Changed]]
"""Does an action to one worker, or finds what it would change if the order is a dry run."""
ADMIN_ONLY = (actions.RotateCredential, actions.Revoke, actions.Remove)
DESIRED = (
    actions.Pause,
    actions.Resume,
    actions.Drain,
    actions.Stop,
    actions.SetQueues,
    actions.SetSlots,
    actions.SetLabels,
)
FOR_REVOKED = (actions.Revoke, actions.Remove)


class WorkerActions:
    """What operators do to workers."""

    def __init__(
        self,
        targets: WorkerTargets,
        desired: DesiredState,
        store: DesiredStore,
        credentials: WorkerCredentialActions,
        *,
        absent: AbsentQueues,
    ) -> None:
        self._absent = absent
        self._targets = targets
        self._desired = desired
        self._store = store
        self._deeds: Mapping[type[BaseModel], Deed] = {
            **dict.fromkeys(DESIRED, self._change_desired),
            actions.RotateCredential: credentials.rotate,
            actions.Revoke: credentials.revoke,
            actions.Remove: credentials.remove,
            actions.ResolveConflict: credentials.resolve,
        }

    async def act(self, request: WorkerActionRequest, operator: Operator) -> ActionResult:
        """Do an action to all its targets; it goes on although the caller leaves.

        Raises:
            EdgeError: `forbidden`, `invalid_request`.
        """
        action = request.action
        if isinstance(action, ADMIN_ONLY):
            operator.require(Role.ADMIN)
        deed = self._deeds.get(type(action))
        if deed is None:
            raise EdgeError(ErrorCode.INVALID_REQUEST, f"this relay does not know the action {action.do}")
        order = Order(operator, request.reason, datetime.now(UTC), request.dry_run)
        _check(action, order)
        rights = self._targets.queue_rights(operator.scope)
        known = self._targets.by_name()
        targets = [(name, name) for name in self._targets.named(request, operator.scope)]
        teams = {access.team for name, _ in targets if (access := known.get(name)) is not None}
        # Before the action: a queue that a worker serves exists.
        absent = await self._absent.among((team, queue) for team in teams for queue in _added_queues(action))

        async def act(worker: str) -> bool:
            access = await self._targets.require(worker, known, operator.scope)
            if access.revoked_at is not None and not isinstance(action, FOR_REVOKED):
                raise EdgeError(ErrorCode.WRONG_STATE, "the worker is revoked")
            rights.check(access.team, _added_queues(action))
            return bool(await deed(access, action, order))

        result = await run_to_completion(act_on_all(targets, act, dry_run=order.dry_run))
        return result.model_copy(update={"absent": tuple(sorted(queue_token(*key) for key in absent))})

    async def _change_desired(self, access: WorkerAccess, action: WorkerAction, order: Order) -> Changed:
        change = partial(_changed_entry, access, action, order)
        if order.dry_run:
            before = self._desired.worker(access.worker)
            return changed(before, change(before))
        told = partial(describe, order, action.do, target_of(access))
        return changed(*await self._store.change_worker(access.worker, change, told))


def _changed_entry(access: WorkerAccess, action: WorkerAction, order: Order, entry: DesiredWorker) -> DesiredWorker:
    match action:
        case actions.Pause() | actions.Resume() | actions.Drain() | actions.Stop():
            return with_order(entry, action, order)
        case actions.SetQueues():
            return _within_scope(with_queues(entry, action, access.settings.queues), access, order)
        case actions.SetSlots():
            return with_slots(entry, action)
        case actions.SetLabels():
            return with_labels(entry, action)
        case _:
            msg = f"{action.do} is no change of desired state"
            raise TypeError(msg)


def _within_scope(entry: DesiredWorker, access: WorkerAccess, order: Order) -> DesiredWorker:
    """Refuse queues that the operator does not name, but would give: those of the enrolment."""
    if not all(map(order.operator.scope.has_queue, entry.queues or access.settings.queues)):
        text = f"{access.worker} was enrolled for queues outside your scope: name those that it shall serve"
        raise EdgeError(ErrorCode.FORBIDDEN, text)
    return entry


def _added_queues(action: WorkerAction) -> tuple[str, ...]:
    """The queues that a worker shall serve by this action, as far as they are named."""
    return (*(action.queues or ()), *action.add) if isinstance(action, actions.SetQueues) else ()


def _check(action: WorkerAction, order: Order) -> None:
    """Refuse what is wrong for all targets alike.

    Raises:
        EdgeError: `invalid_request`; `not_found`: a queue outside the operator's scope.
    """
    if isinstance(action, actions.Pause | actions.Drain | actions.Stop):
        check_end(action.until, order.at)
    if isinstance(action, actions.SetQueues):
        named = _added_queues(action)
        if action.as_enrolled == bool(named or action.remove):
            raise EdgeError(ErrorCode.INVALID_REQUEST, "give either as_enrolled, or queues, add or remove")
        for queue in named:
            if not order.operator.scope.has_queue(queue):
                raise EdgeError(ErrorCode.NOT_FOUND, f"there is no queue {queue}")
