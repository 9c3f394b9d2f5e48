"""`PUT /v1/jobs/{job}/log?offset=N`: the bytes of a job's log, also for a while after the job ended."""

import re

from aiohttp import web

from edge_relay.http.bodies import job_of, json_response
from edge_relay.http.callers import Callers
from edge_relay.http.raw_bodies import decode, read_bounded
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.job_logs import JobLogs
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, LogPosition
from edge_service.body_memory import BodyMemory

CONTENT_TYPE = "application/octet-stream"
_OFFSET = re.compile(r"0|[1-9][0-9]{0,11}")


class LogHandlers:
    """Log uploads, on the workers' listener."""

    def __init__(self, callers: Callers, memory: BodyMemory, logs: JobLogs, metrics: Metrics) -> None:
        self._callers = callers
        self._memory = memory
        self._logs = logs
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.put(routes.JOB_LOG, self.append)]

    async def append(self, request: web.Request) -> web.Response:
        """Store a chunk; the answer is the offset up to which the worker's log file is durable."""
        principal = await self._callers.worker(request)
        job, offset = job_of(request), _offset(request)
        if request.content_type != CONTENT_TYPE:
            raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"send the body as {CONTENT_TYPE}")
        # Before the body: a body is read only from the job's holder, within its budget.
        await self._logs.check(job, principal.worker, offset)
        with self._memory.account(principal.worker) as account:
            body = await read_bounded(request, MAX_CHUNK_BYTES, on_bytes=account.add)
            data = decode(body, request.headers.get("Content-Encoding", ""), MAX_CHUNK_DECODED_BYTES)
            end = await self._logs.append(job, principal.worker, offset, data)
        self._metrics.log_bytes.inc(max(0, min(len(data), end - offset)))
        return json_response(LogPosition(offset=end))


def _offset(request: web.Request) -> int:
    values = request.query.getall("offset", [])
    if len(values) != 1 or len(request.query) != 1 or not _OFFSET.fullmatch(values[0]):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "send offset=N, a count of bytes, and nothing else in the query")
    return int(values[0])
