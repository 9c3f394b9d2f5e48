"""What a request to the gateway is about: the job, and which call of the Execution API it is."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from edge_schemas.gate.execution_paths import carry, decode_path
from edge_schemas.gate.limits import CallLimits
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_worker.gateway.fates import Route
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.registry import JobRegistry

_OWN_ROUTES = {("PATCH", "state"): Route.FINAL_STATE, ("PUT", "rtif"): Route.RENDERED_FIELDS}
_TARGET = re.compile(r"/jobs/([0-9a-f-]{36})/execution/([^?#]*)(?:\?([^#]*))?")
_QUERY_SAFE = "!$%&'()*+,-./:;=?@[\\]^_`{|}~"
"""Besides letters and digits. A percent sign begins an escape: nothing is encoded twice."""


@dataclass(frozen=True)
class Target:
    """Of one request.

    Attributes:
        job: The id in the path.
        held: The job, if the worker has to do with it.
        path: Of the call to the Execution API, in the form in which it travels to the gate; see `carry`.
        segments: The path's decoded parts.
    """

    job: str
    driver: JobDriver | None
    path: str
    segments: tuple[str, ...]
    query: str

    @property
    def is_own_instance(self) -> bool:
        """The path is `task-instances/<the job's task instance>/...`; an auxiliary job has no task instance."""
        task = self.driver.job.task if self.driver is not None else None
        return task is not None and len(self.segments) == 3 and self.segments[:2] == ("task-instances", task.ti_id)

    def is_some_heartbeat(self, method: str) -> bool:
        """A heartbeat, of this task or of another."""
        return method == "PUT" and self.segments[0] == "task-instances" and self.segments[-1] == "heartbeat"

    def is_heartbeat(self, method: str) -> bool:
        """A heartbeat of the job's own task."""
        return self.is_own_instance and self.is_some_heartbeat(method)

    def begins_user_code(self, method: str) -> bool:
        """The job's own task reports that it runs; with the answer its user code begins."""
        return method == "PATCH" and self.is_own_instance and self.segments[2] == "run"

    def route(self, method: str) -> Route:
        """What a call with this method is for."""
        if method in {"GET", "HEAD"}:
            return Route.SECRET_READ if self.segments[0] in {"connections", "variables"} else Route.READ
        if self.is_own_instance:
            return _OWN_ROUTES.get((method, self.segments[2]), Route.WRITE)
        return Route.WRITE


def target_of(raw: str, table: JobRegistry, limits: CallLimits) -> Target:
    """What a request is about.

    Args:
        raw: Path and query as they were sent.
        table: The jobs.
        limits: Of path and query.

    Raises:
        EdgeError: `not_found`: the path is not one of the gateway's. `invalid_request` or `path_too_long`.
    """
    match = _TARGET.fullmatch(raw)
    if match is None:
        raise EdgeError(ErrorCode.NOT_FOUND, "the path is not one of the gateway's")
    job, query = match[1], quote((match[3] or "").encode(errors="surrogateescape"), safe=_QUERY_SAFE)
    segments = decode_path(match[2])
    limits.check_path(segments, query)
    return Target(job, table.get(job), carry(segments), segments, query)
