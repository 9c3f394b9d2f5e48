"""Operations of operators under `/v1/admin` about causes."""

from edge_schemas.admin.why import WhyAnswer
from edge_schemas.openapi.operation import read_operation
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode

WHY_OPERATIONS = (
    read_operation(
        routes.ADMIN_JOB_WHY,
        "whyJob",
        "Why a job has not started, or what became of it",
        WhyAnswer,
        errors=(_E.NOT_FOUND,),
    ),
    read_operation(
        routes.ADMIN_WHY,
        "whyTask",
        "Why a task instance has not started, whether or not it has a job",
        WhyAnswer,
        TaskQuery,
        errors=(_E.NOT_FOUND, _E.GATE_UNAVAILABLE),
    ),
)
