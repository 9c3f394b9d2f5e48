"""The holder's calls of the Execution API: what the gate records of them, and who may make them."""

from typing import assert_never

from edge_schemas.life.events import AnswerWrite, BeginFinishing, BeginWrite, GateEvent, ReportUserCode
from edge_schemas.life.model import Holder, JobRecord, JobState, OpenWrite, UserCode
from edge_schemas.wire.errors import EdgeError, ErrorCode


def apply_call(record: JobRecord, event: GateEvent) -> JobRecord:
    """The record after an event of the gate.

    Raises:
        EdgeError: As `check_holder`, or `wrong_state` if the job's state does not allow the call.
    """
    record = check_holder(record, event.worker)
    match event:
        case ReportUserCode():
            return _report_user_code(record, event)
        case BeginWrite():
            return _begin_write(record, event)
        case BeginFinishing():
            return _begin_finishing(record)
        case AnswerWrite():
            return _answer_write(record, event)
        case _:
            assert_never(event)


def check_holder(record: JobRecord | None, worker: str) -> JobRecord:
    """The record, if this worker started the job and it has not ended.

    Raises:
        EdgeError: `job_ended`, `wrong_state` (it has not been started) or `not_holder`.
    """
    if record is None or record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    holder_of(record, worker)
    return record


def holder_of(record: JobRecord, worker: str) -> Holder:
    """The holder, if it is this worker.

    Raises:
        EdgeError: `wrong_state` or `not_holder`.
    """
    if record.holder is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has not been started")
    if record.holder.worker != worker:
        raise EdgeError(ErrorCode.NOT_HOLDER)
    return record.holder


def _report_user_code(record: JobRecord, event: ReportUserCode) -> JobRecord:
    _require_task(record)
    if record.state is JobState.STOPPING:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is to stop")
    if record.user_code is not None:
        same = (record.user_code.hostname, record.user_code.pid) == (event.hostname, event.pid)
        if not same:
            raise EdgeError(ErrorCode.WRONG_STATE, "user code of this dispatch was already started by another process")
        return record
    seen = UserCode(hostname=event.hostname, pid=event.pid, at=event.at)
    return record.model_copy(update={"user_code": seen})


def _begin_write(record: JobRecord, event: BeginWrite) -> JobRecord:
    if record.open_write is not None and record.open_write.request_id == event.request_id:
        return record
    begun = OpenWrite(request_id=event.request_id, sent_at=event.at, before=event.before)
    return record.model_copy(update={"open_write": begun})


def _begin_finishing(record: JobRecord) -> JobRecord:
    _require_task(record)
    if record.accepted_state is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "a final state was already accepted")
    return record if record.finishing else record.model_copy(update={"finishing": True})


def _require_task(record: JobRecord) -> None:
    if record.auxiliary is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "this job is no task: it has no state in Airflow")


def _answer_write(record: JobRecord, event: AnswerWrite) -> JobRecord:
    return record.model_copy(
        update={
            "last_write": event.answer,
            "open_write": None,
            "finishing": event.accepted_state is not None,
            "accepted_state": record.accepted_state or event.accepted_state,
        }
    )
