"""Operations of operators under `/v1/admin` about causes."""

from edge_schemas.admin.access import Role
from edge_schemas.admin.why import WhyAnswer
from edge_schemas.openapi.operation import ACCESS, OPERATOR_CALL, Operation
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode
_WHY = (*OPERATOR_CALL, _E.NOT_FOUND)

WHY_OPERATIONS = (
    Operation(
        "get",
        routes.ADMIN_JOB_WHY,
        "whyJob",
        "Why a job has not started, or what became of it",
        "operators",
        {200: WhyAnswer},
        ACCESS,
        errors=_WHY,
        role=Role.VIEWER,
    ),
    Operation(
        "get",
        routes.ADMIN_WHY,
        "whyTask",
        "Why a task instance has not started, whether or not it has a job",
        "operators",
        {200: WhyAnswer},
        ACCESS,
        errors=(*_WHY, _E.GATE_UNAVAILABLE),
        query=TaskQuery,
        role=Role.VIEWER,
    ),
)
