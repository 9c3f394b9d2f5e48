"""Every method of every path of the relay, with its models and problem codes."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.life.model import JobRecord
from edge_schemas.wire import routes, workers
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import FinishRequest, ReleaseRequest, StartRequest
from edge_schemas.wire.logs import LogPosition
from edge_schemas.wire.polls import Poll, PollAnswer

WORKER, ENROLLMENT, ACCESS = "workerSecret", "enrollmentToken", "accessToken"
"""Kinds of bearer."""
_E = ErrorCode
_CALL = (_E.INVALID_REQUEST, _E.UNAUTHENTICATED, _E.RATE_LIMITED, _E.BROKER_UNAVAILABLE, _E.DRAINING)
_BODY = (_E.PAYLOAD_TOO_LARGE, _E.UNSUPPORTED_MEDIA_TYPE)
_JOB = (_E.CREDENTIAL_REVOKED, _E.NOT_HOLDER, _E.WRONG_STATE, _E.JOB_ENDED)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        answers: Status of a good answer to its model; None where there is no body.
        errors: Codes it may answer with, besides those that every call may meet.
    """

    method: str
    path: str
    id: str
    summary: str
    tag: Literal["workers", "operators", "health"]
    answers: dict[int, type[BaseModel] | None]
    security: str | None = None
    request: type[BaseModel] | None = None
    errors: tuple[ErrorCode, ...] = ()


OPERATIONS = (
    Operation(
        "post",
        routes.ENROLL,
        "enroll",
        "Trade an enrolment token for a worker",
        "workers",
        {200: workers.Enrollment},
        ENROLLMENT,
        workers.EnrollRequest,
        (*_CALL, *_BODY, _E.ENROLLMENT_REFUSED, _E.PROTOCOL_UNSUPPORTED),
    ),
    Operation(
        "post",
        routes.POLL,
        "poll",
        "Report and wait for work; 204 if there is nothing to do",
        "workers",
        {200: PollAnswer, 204: None},
        WORKER,
        Poll,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.SUPERSEDED, _E.PROTOCOL_UNSUPPORTED),
    ),
    Operation(
        "get",
        routes.WORKER,
        "showWorker",
        "What the credential gives access to, and what its runtime must match; changes nothing",
        "workers",
        {200: WorkerFacts},
        WORKER,
        errors=(_E.UNAUTHENTICATED, _E.CREDENTIAL_REVOKED, _E.RATE_LIMITED, _E.BROKER_UNAVAILABLE),
    ),
    Operation(
        "post",
        routes.JOB_START,
        "startJob",
        "Confirm a grant and become the holder of its job",
        "workers",
        {204: None},
        WORKER,
        StartRequest,
        (*_CALL, *_BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED, _E.TAKEOVER_PENDING),
    ),
    Operation(
        "post",
        routes.JOB_FINISH,
        "finishJob",
        "Report that a job's processes are gone",
        "workers",
        {204: None},
        WORKER,
        FinishRequest,
        (*_CALL, *_BODY, *_JOB, _E.TAKEOVER_PENDING),
    ),
    Operation(
        "post",
        routes.JOB_RELEASE,
        "releaseJob",
        "Release a granted job",
        "workers",
        {204: None},
        WORKER,
        ReleaseRequest,
        (*_CALL, *_BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED),
    ),
    Operation(
        "put",
        routes.JOB_LOG,
        "appendLog",
        "Append bytes to a job's log; the answer is the offset up to which it is durable",
        "workers",
        {200: LogPosition},
        WORKER,
        errors=(*_CALL, *_BODY, *_JOB, _E.OFFSET_MISMATCH),
    ),
    *(
        Operation(
            method,
            routes.JOB_EXECUTION,
            f"{method}Execution",
            "Forward a call of a task to Airflow's Execution API",
            "workers",
            {},
            WORKER,
            errors=(*_CALL, *_JOB, _E.PAYLOAD_TOO_LARGE, _E.PATH_TOO_LONG, _E.GATE_UNAVAILABLE),
        )
        for method in ("get", "head", "post", "put", "patch", "delete")
    ),
    Operation(
        "post",
        routes.ADMIN_ENROLL_TOKENS,
        "createEnrollToken",
        "Create an enrolment token",
        "operators",
        {201: workers.EnrollToken},
        ACCESS,
        workers.EnrollTokenRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "get",
        routes.ADMIN_WORKERS,
        "listWorkers",
        "All workers that ever enrolled",
        "operators",
        {200: workers.WorkerList},
        ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_REVOKE,
        "revokeWorker",
        "Revoke a worker's credential, for good",
        "operators",
        {204: None},
        ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_RESOLVE,
        "resolveWorker",
        "Decide which of two agents with one credential is the worker",
        "operators",
        {204: None},
        ACCESS,
        workers.ResolveRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "get",
        routes.ADMIN_JOB,
        "showJob",
        "The record of a job, without its workload",
        "operators",
        {200: JobRecord},
        ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_CANCEL,
        "cancelJob",
        "End a job in any state; the answer is its record",
        "operators",
        {200: JobRecord},
        ACCESS,
        workers.CancelRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.JOB_ENDED),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_REDRIVE,
        "redriveJob",
        "Republish a parked job",
        "operators",
        {204: None},
        ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.WRONG_STATE, _E.JOB_ENDED),
    ),
)
