"""Actions on queues: pause and resume them, and change their settings, which executors follow."""

from datetime import UTC, datetime
from functools import partial

from edge_broker.subjects import queue_token
from edge_relay.actions.absent_queues import AbsentQueues
from edge_relay.actions.bulk import act_on_all
from edge_relay.actions.changes import changed, describe, with_order, with_queue_settings
from edge_relay.actions.order import Order, Target, check_end
from edge_relay.desired.state import DesiredState
from edge_relay.desired.store import DesiredStore
from edge_relay.identity.operators.operator import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin.access import Role
from edge_schemas.admin.actions import ActionResult, Pause, QueueActionRequest, QueueId, SetQueueSettings
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.wire.errors import EdgeError, ErrorCode


class QueueActions:
    """What operators do to queues. A queue need not exist yet: an answer names those that don't."""

    def __init__(self, desired: DesiredState, store: DesiredStore, absent: AbsentQueues) -> None:
        self._absent = absent
        self._desired = desired
        self._store = store

    async def act(self, request: QueueActionRequest, operator: Operator) -> ActionResult:
        """Do an action to all its queues; it goes on although the caller leaves.

        Raises:
            EdgeError: `forbidden`, `invalid_request`.
        """
        action = request.action
        if isinstance(action, SetQueueSettings):
            operator.require(Role.ADMIN)
        if operator.scope.sites is not None:
            raise EdgeError(ErrorCode.FORBIDDEN, "a queue has workers of sites that are outside your scope")
        order = Order(operator, request.reason, datetime.now(UTC), request.dry_run)
        if isinstance(action, Pause):
            check_end(action.until, order.at)

        async def act(queue: QueueId) -> bool:
            if not operator.scope.has_queue(queue.queue):
                raise EdgeError(ErrorCode.NOT_FOUND, f"there is no queue {queue.queue}")
            change = partial(_changed_entry, request, order)
            before = self._desired.queue(queue.team, queue.queue)
            if order.dry_run:
                return bool(changed(before, change(before)))
            target = Target(TargetKind.QUEUE, _name(queue), queue=queue.queue)
            told = partial(describe, order, action.do, target)
            return bool(changed(*await self._store.change_queue(queue.team, queue.queue, change, told)))

        targets = {_name(queue): queue for queue in request.queues}
        result = await run_to_completion(act_on_all(list(targets.items()), act, dry_run=order.dry_run))
        failed = {failure.target for failure in result.failures}
        done = ((queue.team, queue.queue) for name, queue in targets.items() if name not in failed)
        absent = await self._absent.among(done)
        return result.model_copy(update={"absent": tuple(sorted(queue_token(*key) for key in absent))})


def _changed_entry(request: QueueActionRequest, order: Order, entry: DesiredQueue) -> DesiredQueue:
    if isinstance(request.action, SetQueueSettings):
        return with_queue_settings(entry, request.action)
    return with_order(entry, request.action, order)


def _name(queue: QueueId) -> str:
    return queue_token(queue.team, queue.queue)
