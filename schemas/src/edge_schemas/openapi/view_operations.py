"""What operators see of workers, sites, queues and jobs, and their actions on jobs."""

from functools import partial

from edge_schemas.admin import actions, rows, view_queries
from edge_schemas.openapi.operation import action_operation, read_operation
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_view = partial(read_operation, is_conditional=True)
_OF_ONE = (ErrorCode.NOT_FOUND,)

VIEW_OPERATIONS = (
    _view(
        routes.ADMIN_OVERVIEW,
        "showOverview",
        "The fleet in one look, and what an operator should look at",
        rows.Overview,
    ),
    read_operation(
        routes.ADMIN_CHANGES,
        "followChanges",
        "Server-sent events: `change` names lists that have changed; `alive` comes every 2 s without one",
        rows.Change,
    ),
    _view(routes.ADMIN_WORKERS, "listWorkers", "Workers", rows.WorkerPage, view_queries.WorkerQuery),
    _view(
        routes.ADMIN_WORKER,
        "showWorker",
        "One worker: its jobs, its history, what keeps it from running jobs",
        rows.WorkerDetail,
        errors=_OF_ONE,
    ),
    _view(routes.ADMIN_SITES, "listSites", "Sites, from their workers", rows.SitePage, view_queries.SiteQuery),
    _view(
        routes.ADMIN_QUEUES,
        "listQueues",
        "Queues with what waits, runs, comes and goes",
        rows.QueuePage,
        view_queries.QueueQuery,
    ),
    _view(
        routes.ADMIN_JOBS,
        "listJobs",
        "Unfinished jobs, or ended ones, the newest first",
        rows.JobPage,
        view_queries.JobQuery,
    ),
    _view(
        routes.ADMIN_JOB,
        "showJob",
        "One job: its record without the workload, and its timeline",
        rows.JobDetail,
        errors=_OF_ONE,
    ),
    action_operation(
        routes.ADMIN_JOB_ACTIONS,
        "actOnJobs",
        "Cancel, redrive or purge jobs: one or thousands",
        actions.JobActionRequest,
    ),
)
