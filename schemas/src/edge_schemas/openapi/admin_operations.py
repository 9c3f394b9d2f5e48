"""Every method of every path under `/v1/admin`, with its models and problem codes."""

from edge_schemas.admin import actions
from edge_schemas.admin.access import Role
from edge_schemas.openapi.access_operations import ACCESS_OPERATIONS
from edge_schemas.openapi.operation import ACCESS, BODY, OPERATOR_CALL, Operation
from edge_schemas.openapi.view_operations import VIEW_OPERATIONS
from edge_schemas.openapi.why_operations import WHY_OPERATIONS
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode
_ACTION = (*OPERATOR_CALL, *BODY, _E.NOT_FOUND)
"""An error about one target is in the result, not an answer of its own."""

ADMIN_OPERATIONS = (
    *ACCESS_OPERATIONS,
    *VIEW_OPERATIONS,
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
        role=Role.OPERATOR,
        admin_actions=("rotate", "revoke", "remove"),
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
        role=Role.OPERATOR,
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
        role=Role.OPERATOR,
        admin_actions=("set",),
    ),
    *WHY_OPERATIONS,
)
