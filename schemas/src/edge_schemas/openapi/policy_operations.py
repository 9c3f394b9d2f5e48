"""Operations of operators under `/v1/admin` about policies."""

from edge_schemas.admin.policies import AccessPage, AccessQuery, PolicyPage, PolicyQuery
from edge_schemas.openapi.operation import read_operation
from edge_schemas.wire import routes

POLICY_OPERATIONS = (
    read_operation(
        routes.ADMIN_POLICIES,
        "listPolicies",
        "What the jobs of queues and sites may use of Airflow; set at the centre only",
        PolicyPage,
        PolicyQuery,
    ),
    read_operation(
        routes.ADMIN_ACCESSES,
        "listAccesses",
        "What the jobs of a queue or a site used of Airflow: names and counts",
        AccessPage,
        AccessQuery,
    ),
)
