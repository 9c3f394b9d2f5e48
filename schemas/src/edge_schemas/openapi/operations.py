"""Every method of every path of the relay, with its models and problem codes."""

from edge_schemas.gate.centre import SigningKeys, WorkerFacts
from edge_schemas.openapi.admin_operations import ADMIN_OPERATIONS
from edge_schemas.openapi.operation import BODY, CALL, ENROLLMENT, WORKER, Operation
from edge_schemas.openapi.producer_operations import PRODUCER_OPERATIONS
from edge_schemas.wire import routes, workers
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import (
    BundleQuery,
    FinishRequest,
    LogPosition,
    PiecesRequest,
    ReleaseRequest,
    StartRequest,
)
from edge_schemas.wire.polls import Poll, PollAnswer

_E = ErrorCode
_JOB = (_E.CREDENTIAL_REVOKED, _E.NOT_HOLDER, _E.WRONG_STATE, _E.JOB_ENDED)
_BUNDLE = (*_JOB, _E.TAKEOVER_PENDING, _E.FORBIDDEN, _E.NOT_FOUND)

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
        (*CALL, *BODY, _E.ENROLLMENT_REFUSED, _E.PROTOCOL_UNSUPPORTED),
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
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.SUPERSEDED, _E.PROTOCOL_UNSUPPORTED),
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
        "get",
        routes.WORKER_SIGNING_KEYS,
        "showSigningKeys",
        "The key sets of the centre, with which a worker checks that the executor has signed its jobs",
        "workers",
        {200: SigningKeys},
        WORKER,
        errors=(_E.UNAUTHENTICATED, _E.CREDENTIAL_REVOKED, _E.RATE_LIMITED, _E.BROKER_UNAVAILABLE),
    ),
    Operation(
        "post",
        routes.WORKER_SECRET,
        "registerSecret",
        "Register the hash of the worker's next secret; the current one is valid until the next one is used",
        "workers",
        {204: None},
        WORKER,
        workers.SecretRequest,
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.WRONG_STATE),
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
        (*CALL, *BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED, _E.TAKEOVER_PENDING),
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
        (*CALL, *BODY, *_JOB, _E.TAKEOVER_PENDING),
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
        (*CALL, *BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED),
    ),
    Operation(
        "put",
        routes.JOB_LOG,
        "appendLog",
        "Append bytes to a job's log; the answer is the offset up to which it is durable",
        "workers",
        {200: LogPosition},
        WORKER,
        errors=(*CALL, *BODY, *_JOB, _E.OFFSET_MISMATCH),
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
            errors=(
                *CALL,
                *_JOB,
                _E.JOB_NOT_SIGNED,
                _E.POLICY_DENIED,
                _E.PAYLOAD_TOO_LARGE,
                _E.PATH_TOO_LONG,
                _E.GATE_UNAVAILABLE,
            ),
        )
        for method in ("get", "head", "post", "put", "patch", "delete")
    ),
    Operation(
        "get",
        routes.BUNDLE,
        "readBundle",
        "The manifest of the published version of a bundle that a job runs",
        "workers",
        {200: None},
        WORKER,
        errors=(*CALL, *_BUNDLE),
        query=BundleQuery,
        media_type="application/zstd",
    ),
    Operation(
        "post",
        routes.BUNDLE_PIECES,
        "readPieces",
        "Pieces of the files of a bundle that a job runs; each begins with the length of its frame",
        "workers",
        {200: None},
        WORKER,
        PiecesRequest,
        (*CALL, *BODY, *_BUNDLE),
        media_type="application/octet-stream",
    ),
    *PRODUCER_OPERATIONS,
    *ADMIN_OPERATIONS,
)
