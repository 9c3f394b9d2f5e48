"""Every method of every path under `/v1/admin`, with its models and problem codes."""

from edge_schemas.openapi.operation import ACCESS, BODY, CALL, Operation
from edge_schemas.openapi.view_operations import VIEW_OPERATIONS
from edge_schemas.wire import routes, workers
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode

ADMIN_OPERATIONS = (
    *VIEW_OPERATIONS,
    Operation(
        "post",
        routes.ADMIN_ENROLL_TOKENS,
        "createEnrollToken",
        "Create an enrolment token",
        "operators",
        {201: workers.EnrollToken},
        ACCESS,
        workers.EnrollTokenRequest,
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_REVOKE,
        "revokeWorker",
        "Revoke a worker's credential, for good",
        "operators",
        {204: None},
        ACCESS,
        errors=(*CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
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
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
)
