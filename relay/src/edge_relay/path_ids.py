"""Identifiers out of a call's path, checked before anything is asked about them."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.ids import JobId, WorkerName

_JOB: TypeAdapter[str] = TypeAdapter(JobId)
_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


def job_of(request: web.Request) -> str:
    """The job in the path.

    Raises:
        EdgeError: `invalid_request`.
    """
    return _checked(_JOB, request.match_info["job"], "a job id is a lower-case UUID")


def worker_of(request: web.Request) -> str:
    """The worker in the path.

    Raises:
        EdgeError: `invalid_request`.
    """
    return _checked(_WORKER, request.match_info["worker"], "a worker's name is a DNS label")


def _checked(kind: TypeAdapter[str], value: str, rule: str) -> str:
    try:
        return kind.validate_python(value)
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, rule) from None
