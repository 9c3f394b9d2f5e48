"""What a request to the gateway is about: the job, and which call of the Execution API it is."""

import re
from dataclasses import dataclass

from edge_schemas.gate.execution_paths import split_path
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.registry import JobRegistry

MAX_TARGET_CHARS = 8000
"""Path and query; servers and proxies on the way take no more."""

_TARGET = re.compile(r"/jobs/([0-9a-f-]{36})/execution/([^?#]*)(?:\?([^#]*))?")


@dataclass(frozen=True)
class Target:
    """Of one request.

    Attributes:
        job: The id in the path.
        held: The job, if the worker has to do with it.
        raw_path: Of the call to the Execution API, as it was sent.
        segments: The path's parts.
    """

    job: str
    driver: JobDriver | None
    raw_path: str
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

    def is_final_write(self, method: str) -> bool:
        """The task's final state."""
        return method == "PATCH" and self.is_own_instance and self.segments[2] == "state"

    def is_rendered_fields(self, method: str) -> bool:
        """The task's rendered fields."""
        return method == "PUT" and self.is_own_instance and self.segments[2] == "rtif"


def target_of(raw_path: str, table: JobRegistry) -> Target:
    """What a request is about.

    Raises:
        EdgeError: The path is not one of the gateway's.
    """
    match = _TARGET.fullmatch(raw_path)
    if match is None:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path is not one of the gateway's")
    if len(raw_path) > MAX_TARGET_CHARS:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"path and query are longer than {MAX_TARGET_CHARS} characters")
    job, path, query = match[1], match[2], match[3] or ""
    return Target(job, table.get(job), path, split_path(path), query)
