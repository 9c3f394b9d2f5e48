"""Every method of every path under `/v1/admin`, with its models and problem codes."""

from edge_schemas.admin import actions
from edge_schemas.life.model import JobRecord
from edge_schemas.openapi.operation import ACCESS, BODY, CALL, Operation
from edge_schemas.wire import routes, workers
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode
_ACTION = (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.FORBIDDEN, _E.NOT_FOUND)
"""An error about one target is in the result, not an answer of its own."""

ADMIN_OPERATIONS = (
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
        "get",
        routes.ADMIN_WORKERS,
        "listWorkers",
        "All workers that ever enrolled",
        "operators",
        {200: workers.WorkerList},
        ACCESS,
        errors=(*CALL, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_ACTIONS,
        "actOnWorkers",
        "Act on one or many workers: availability, queues, slots, labels, credentials",
        "operators",
        {200: actions.ActionResult},
        ACCESS,
        actions.WorkerActionRequest,
        _ACTION,
    ),
    Operation(
        "post",
        routes.ADMIN_SITE_ACTIONS,
        "actOnSites",
        "Pause, resume, drain or stop all workers of sites",
        "operators",
        {200: actions.ActionResult},
        ACCESS,
        actions.SiteActionRequest,
        _ACTION,
    ),
    Operation(
        "post",
        routes.ADMIN_QUEUE_ACTIONS,
        "actOnQueues",
        "Pause or resume queues, or change their settings",
        "operators",
        {200: actions.ActionResult},
        ACCESS,
        actions.QueueActionRequest,
        _ACTION,
    ),
    Operation(
        "get",
        routes.ADMIN_JOB,
        "showJob",
        "The record of a job, without its workload",
        "operators",
        {200: JobRecord},
        ACCESS,
        errors=(*CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
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
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.JOB_ENDED),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_REDRIVE,
        "redriveJob",
        "Republish a parked job",
        "operators",
        {204: None},
        ACCESS,
        errors=(*CALL, _E.CREDENTIAL_REVOKED, _E.WRONG_STATE, _E.JOB_ENDED),
    ),
)
