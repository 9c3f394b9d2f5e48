"""Every method of every path under `/v1/admin`, with its models and problem codes."""

from edge_schemas.admin import actions
from edge_schemas.openapi.access_operations import ACCESS_OPERATIONS
from edge_schemas.openapi.operation import action_operation
from edge_schemas.openapi.policy_operations import POLICY_OPERATIONS
from edge_schemas.openapi.view_operations import VIEW_OPERATIONS
from edge_schemas.openapi.why_operations import WHY_OPERATIONS
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_MISSING = (ErrorCode.NOT_FOUND,)

ADMIN_OPERATIONS = (
    *ACCESS_OPERATIONS,
    *VIEW_OPERATIONS,
    action_operation(
        routes.ADMIN_WORKER_ACTIONS,
        "actOnWorkers",
        "Act on one or many workers: availability, queues, slots, labels, credentials",
        actions.WorkerActionRequest,
        errors=_MISSING,
        admin_actions=("rotate", "revoke", "remove"),
    ),
    action_operation(
        routes.ADMIN_SITE_ACTIONS,
        "actOnSites",
        "Pause, resume, drain or stop all workers of sites",
        actions.SiteActionRequest,
        errors=_MISSING,
    ),
    action_operation(
        routes.ADMIN_QUEUE_ACTIONS,
        "actOnQueues",
        "Pause or resume queues, or change their settings",
        actions.QueueActionRequest,
        errors=_MISSING,
        admin_actions=("set",),
    ),
    *WHY_OPERATIONS,
    *POLICY_OPERATIONS,
)
