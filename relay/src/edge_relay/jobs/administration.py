"""What operators do with jobs: cancel, redrive, purge; one or thousands of them. Each change is audited."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.stream_info import purge
from edge_broker.records import RecordStore
from edge_broker.subjects import DEAD, dead_subject, worker_notice
from edge_relay.identity.operators.operator import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin import actions
from edge_schemas.admin.actions import ActionFailure, ActionResult, JobActionRequest
from edge_schemas.admin.audit import AuditEvent, TargetKind
from edge_schemas.life.events import Redrive, Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.life.transition import transition
from edge_schemas.wire.errors import EdgeError, ErrorCode

AT_ONCE = 16
"""Changes of one call that are under way at the same time."""
MAX_LISTED = 1_000
"""Of changed targets, and of failures; all are counted."""


NOT_TRIED = "not tried: NATS does not answer; repeat the call, which changes nothing twice"
"""After the first change that failed for this no other is begun: each would cost seconds."""


@dataclass(slots=True)
class _Tally:
    changed: list[str]
    unchanged: int
    failures: list[ActionFailure]


@dataclass(frozen=True, slots=True)
class _Done:
    """A change of a job, as the audit shows it.

    Attributes:
        before: The state before it; None if the record no longer shows that.
    """

    at: datetime
    before: dict[str, str] | None


class JobAdministration:
    """Operators' changes of jobs."""

    def __init__(self, broker: Broker, records: RecordStore, audit: Audit) -> None:
        self._broker = broker
        self._records = records
        self._audit = audit

    async def act(
        self, request: JobActionRequest, jobs: Sequence[str], hidden: Collection[str], *, operator: Operator
    ) -> ActionResult:
        """Act on each job; one that fails keeps no other from its change. A repeat changes nothing.

        A redriven job is republished by its executor, which watches records. Its history stays in `EDGE_DEAD` until it
        is purged or the stream's age limit.

        Args:
            request: What to do and why.
            jobs: With which, each named once.
            hidden: Those of them that the operator may not see.
            operator: Who does it.
        """
        return await run_to_completion(self._act(request, jobs, hidden, operator))

    async def _act(
        self, request: JobActionRequest, jobs: Sequence[str], hidden: Collection[str], operator: Operator
    ) -> ActionResult:
        tally = _Tally([], 0, [])
        left = iter(jobs)
        away = False

        async def work() -> None:
            nonlocal away
            for job in left:
                try:
                    if job in hidden:
                        raise EdgeError(ErrorCode.NOT_FOUND, "there is no such unfinished job")
                    if away:
                        raise BrokerUnavailable(NOT_TRIED)
                    is_changed = await self._change(job, request, operator)
                except EdgeError as error:
                    away = away or isinstance(error, BrokerUnavailable)
                    tally.failures.append(ActionFailure(target=job, code=error.code, detail=_detail(error)))
                else:
                    if is_changed:
                        tally.changed.append(job)
                    else:
                        tally.unchanged += 1

        async with asyncio.TaskGroup() as group:
            for number in range(min(AT_ONCE, len(jobs))):
                group.create_task(work(), name=f"job-action-{number}")
        return ActionResult(
            changed=tuple(tally.changed[:MAX_LISTED]),
            changed_count=len(tally.changed),
            unchanged_count=tally.unchanged,
            failures=tuple(tally.failures[:MAX_LISTED]),
            failure_count=len(tally.failures),
            dry_run=request.dry_run,
        )

    async def _change(self, job: str, request: JobActionRequest, operator: Operator) -> bool:
        """Whether the job changes."""
        action, at = request.action, datetime.now(UTC)
        event: Redrive | Withdraw
        if isinstance(action, actions.Redrive):
            done_as, event = "redriven", Redrive(f"redriven by operator {operator.name}: {request.reason}", at)
        elif isinstance(action, actions.Cancel):
            done_as, event = "cancelled", Withdraw(f"cancelled by operator {operator.name}: {request.reason}", at)
        else:
            done_as, event = "purged", Withdraw(f"purged by operator {operator.name}: {request.reason}", at)
        is_purge = isinstance(action, actions.Purge)
        if request.dry_run:
            before = await self._records.get(job)
            if is_purge and before is not None:
                await _require_parked(before, before)
            return transition(before, event) is not before
        before, after = await self._records.change(job, event, first=_require_parked if is_purge else None)
        if is_purge:
            await purge(self._broker, DEAD, dead_subject(after.team, after.queue, after.id))
        done = _done(before, after, event)
        if done is not None:
            told = AuditEvent(
                at=done.at,
                action=f"job-{done_as}",
                target_kind=TargetKind.JOB,
                target=job,
                actor=operator.actor,
                queue=after.queue,
                reason=request.reason,
                before=done.before,
                after=_shown(after),
            )
            await (self._audit.complete(told) if after is before else self._audit.store(told))
        if after is before:
            return False
        if after.holder is not None:
            await self._broker.publish(worker_notice(after.holder.worker))
        return True


def _done(before: JobRecord, after: JobRecord, event: Redrive | Withdraw) -> _Done | None:
    """When the job was changed so: now, or earlier by the same operator for the same reason; None if it never was.

    The answer to the earlier call, and so its event, may have been lost.
    """
    if after is not before:
        return _Done(event.at, _shown(before))
    if isinstance(event, Redrive):
        redriven = after.redriven
        if redriven is None or redriven.reason != event.reason:
            return None
        return _Done(redriven.at, {"state": JobState.WAITING.value, "parked": redriven.parked})
    if after.outcome is not None and after.outcome.reason == event.reason:
        return _Done(after.outcome.ended_at, None)
    return _Done(after.stop.at, None) if after.stop is not None and after.stop.reason == event.reason else None


async def _require_parked(before: JobRecord, _: JobRecord) -> None:
    """Refuse to purge a job that is not parked."""
    if before.parked is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is not parked: cancel it instead")


def _shown(record: JobRecord) -> dict[str, str]:
    """The part of a record that operators change."""
    state = {"state": record.state.value}
    return state if record.parked is None else {**state, "parked": record.parked}


def _detail(error: EdgeError) -> str:
    return error.detail or error.code
