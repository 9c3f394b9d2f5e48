"""What operators see of workers, sites, queues and jobs, and their actions on jobs."""

from edge_schemas.admin import actions, queries, rows
from edge_schemas.openapi.operation import ACCESS, BODY, CALL, Operation
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode
_VIEW = (*CALL, _E.CREDENTIAL_REVOKED)
_NOT_MODIFIED = {304: None}

VIEW_OPERATIONS = (
    Operation(
        "get",
        routes.ADMIN_OVERVIEW,
        "showOverview",
        "The fleet in one look, and what an operator should look at",
        "operators",
        {200: rows.Overview, **_NOT_MODIFIED},
        ACCESS,
        errors=_VIEW,
    ),
    Operation(
        "get",
        routes.ADMIN_CHANGES,
        "followChanges",
        "Server-sent events: `change` names lists that have changed; `alive` comes every 2 s without one",
        "operators",
        {200: rows.Change},
        ACCESS,
        errors=_VIEW,
    ),
    Operation(
        "get",
        routes.ADMIN_WORKERS,
        "listWorkers",
        "Workers",
        "operators",
        {200: rows.WorkerPage, **_NOT_MODIFIED},
        ACCESS,
        errors=_VIEW,
        query=queries.WorkerQuery,
    ),
    Operation(
        "get",
        routes.ADMIN_WORKER,
        "showWorker",
        "One worker: its jobs, its history, what keeps it from running jobs",
        "operators",
        {200: rows.WorkerDetail, **_NOT_MODIFIED},
        ACCESS,
        errors=(*_VIEW, _E.NOT_FOUND),
    ),
    Operation(
        "get",
        routes.ADMIN_SITES,
        "listSites",
        "Sites, from their workers",
        "operators",
        {200: rows.SitePage, **_NOT_MODIFIED},
        ACCESS,
        errors=_VIEW,
        query=queries.SiteQuery,
    ),
    Operation(
        "get",
        routes.ADMIN_QUEUES,
        "listQueues",
        "Queues with what waits, runs, comes and goes",
        "operators",
        {200: rows.QueuePage, **_NOT_MODIFIED},
        ACCESS,
        errors=_VIEW,
        query=queries.QueueQuery,
    ),
    Operation(
        "get",
        routes.ADMIN_JOBS,
        "listJobs",
        "Unfinished jobs, or ended ones, the newest first",
        "operators",
        {200: rows.JobPage, **_NOT_MODIFIED},
        ACCESS,
        errors=_VIEW,
        query=queries.JobQuery,
    ),
    Operation(
        "get",
        routes.ADMIN_JOB,
        "showJob",
        "One job: its record without the workload, and its timeline",
        "operators",
        {200: rows.JobDetail, **_NOT_MODIFIED},
        ACCESS,
        errors=(*_VIEW, _E.NOT_FOUND),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_ACTIONS,
        "actOnJobs",
        "Cancel, redrive or purge jobs: one or thousands",
        "operators",
        {200: actions.ActionResult},
        ACCESS,
        actions.JobActionRequest,
        (*CALL, *BODY, _E.CREDENTIAL_REVOKED, _E.FORBIDDEN),
    ),
)
