"""A call for a job by its holder, with the steps that several kinds of calls share."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatched, Dispatches, TaskRow
from edge_bridge.keeper.gate.answers import to_remember
from edge_bridge.keeper.gate.current_dispatch import CurrentDispatch
from edge_bridge.keeper.gate.upstream import Answer, BeforeRetry, ExecutionApi, ExecutionCall
from edge_bridge.keeper.tokens import subject_of
from edge_bridge.signing.trust import CentreTrust, JobNotSigned, unusable
from edge_broker.records import RecordStore
from edge_schemas.life.events import AnswerWrite, Event
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import AuxiliaryJob, TaskIdentity
from edge_service.signing.ed25519 import KeyUnusable

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call that a worker makes for a job; the relay's signature on it was valid."""

    job: str
    worker: str
    request_id: str
    execution: ExecutionCall


@dataclass(frozen=True, slots=True)
class GateParts:
    """What calls are answered with.

    Attributes:
        records: Decide who holds a job; read through the stream leader at each call.
        dispatches: Airflow's database.
        api: Airflow's Execution API.
        trust: Checks that the executor has signed the job.
    """

    records: RecordStore
    dispatches: Dispatches
    api: ExecutionApi
    trust: CentreTrust
    current: CurrentDispatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "current", CurrentDispatch(self.dispatches))

    async def held(self, call: JobCall) -> "HolderCall":
        """The call with the job's record.

        Raises:
            EdgeError: The worker does not hold the job, Airflow does not know the job, or its record was altered.
        """
        record = check_holder(await self.records.get(call.job), call.worker)
        if record.terms is not None:
            raise EdgeError(ErrorCode.FORBIDDEN, "a submitted job makes no calls to Airflow")
        try:
            await self.trust.job_of(record)
        except JobNotSigned as error:
            log.error("job_not_signed", job=call.job, reason=str(error))  # noqa: TRY400  # the cause is in the event
            raise EdgeError(ErrorCode.JOB_NOT_SIGNED, str(error)) from None
        except KeyUnusable as error:
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, unusable(error), retry_after_s=2.0) from None
        return HolderCall(self, call, record)


@dataclass(frozen=True, slots=True)
class HolderCall:
    """A call and the record of its job, which the calling worker holds."""

    parts: GateParts
    call: JobCall
    record: JobRecord

    @property
    def owner(self) -> TaskIdentity | AuxiliaryJob:
        """The task instance or auxiliary job that the call is made for."""
        return self.record.auxiliary or self.task

    @property
    def task(self) -> TaskIdentity:
        """The task instance. Not for auxiliary jobs: no rule allows them a call that needs it."""
        assert self.record.task is not None  # noqa: S101  # see above
        return self.record.task

    @property
    def is_at_its_end(self) -> bool:
        """The job's final state is on its way to Airflow, or was accepted."""
        return self.record.finishing or self.record.accepted_state is not None

    @property
    def is_to_stop(self) -> bool:
        """The job was withdrawn and has not reported its final state."""
        return self.record.state is JobState.STOPPING and not self.is_at_its_end

    async def read_again(self) -> "HolderCall":
        """The same call with the record as it is now.

        Raises:
            EdgeError: The worker no longer holds the job.
        """
        return await self.parts.held(self.call)

    async def change_record(self, event: Event) -> tuple[JobRecord, JobRecord]:
        """The record before and after an event."""
        return await self.parts.records.change(self.call.job, event)

    async def forward(self, *, before_retry: BeforeRetry | None = None) -> Answer:
        """Airflow's answer. Before each further try the record is read: a job that was given up writes no more.

        Without its database the api-server fails at every call. That is an outage, whatever the call contains: only
        while the database answers, a failure is an answer to this call.

        Args:
            before_retry: Checks whether an earlier try took effect.

        Raises:
            EdgeError: There is no answer at the moment, or a server in front of Airflow refused the call.
        """

        async def still_wanted() -> Answer | None:
            await self.read_again()
            return None if before_retry is None else await before_retry()

        call = self.call.execution
        answer = await self.parts.api.call(subject_of(self.record), call, before_retry=still_wanted)
        if answer.failed:
            await from_database(self.parts.dispatches.ping())
        return answer

    async def remember(self, answer: Answer, *, final_state: str | None = None) -> None:
        """Keep the answer to this write in the job's record, and the final state if Airflow has accepted it."""
        kept = to_remember(self.call.request_id, answer, is_final_state=final_state is not None)
        if kept is not None:
            await self.change_record(AnswerWrite(self.call.worker, kept, final_state if answer.accepted else None))

    async def dispatched(self, *, for_read: bool) -> Dispatched | None:
        """The job as a dispatch that Airflow made; None if it is none. See `CurrentDispatch`."""
        return await from_database(self.parts.current.find(self.record, for_read=for_read))

    async def current_row(self) -> TaskRow | None:
        """The row of the task instance that the job was dispatched for; None if there is none (any more)."""
        return await from_database(self.parts.dispatches.one(self.task.ti_id))

    def parse_body(self, model: type[M]) -> M:
        """The body, as far as it is read here.

        Raises:
            EdgeError: `invalid_request`: something is missing or malformed.
        """
        try:
            return model.model_validate_json(self.call.execution.body)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors(include_input=False))
            raise EdgeError(ErrorCode.INVALID_REQUEST, f"missing or malformed: {fields}") from None


async def from_database(query: Awaitable[T]) -> T:
    """The result of a query of Airflow's database.

    Raises:
        EdgeError: `gate_unavailable`: the database does not answer.
    """
    try:
        return await query
    except DatabaseUnavailable as error:
        log.warning("database_unavailable", error=str(error))
        raise EdgeError(ErrorCode.GATE_UNAVAILABLE, "Airflow's database does not answer", retry_after_s=2.0) from None
