"""Who answered a call of the Execution API: Airflow's api-server, or a server in front of it. Pure.

A load balancer, an ingress or a proxy may stand between keeper and api-server, and answers in the api-server's place
while that is down, or if a request breaks a rule of its own. Such an answer must not reach a task: the SDK would take
it for Airflow's, and turn most of them into a default value.
"""

from edge_schemas.wire.errors import TOO_LARGE_STATUSES, EdgeError, ErrorCode

_OWN_ERROR_TYPES = frozenset({"application/json", "text/plain"})
"""Airflow's errors are JSON. What fails outside of its error handlers is plain text of its server."""
_NEVER_OWN = frozenset({502, 503, 504})
"""The api-server gives none of them: it is down, starts, or is overloaded."""
_MAY_PASS = frozenset({401, 404, 407, 408, 429})
"""Of a server in front: it does not find the api-server, misses a password, or asks for time."""


def is_airflows(status: int, content_type: str) -> bool:
    """Whether the api-server itself has given an answer.

    Args:
        content_type: The header's value; empty if there was none.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if status < 400:
        return kind != "text/html"
    return status not in _NEVER_OWN and kind in _OWN_ERROR_TYPES


def refusal_in_front(status: int) -> EdgeError | None:
    """The refusal in an answer that is not Airflow's; None if the same call may reach the api-server later."""
    if not 400 <= status < 500 or status in _MAY_PASS:
        return None
    code = ErrorCode.PAYLOAD_TOO_LARGE if status in TOO_LARGE_STATUSES else ErrorCode.FORBIDDEN
    return EdgeError(code, f"a server in front of Airflow's api-server refused the call with status {status}")
