"""`PUT /v1/jobs/{job}/log?offset=N`: the bytes of a job's log, also for a while after the job ended."""

import re

from aiohttp import web

from edge_relay.http import keys
from edge_relay.http.bodies import job_of, json_response
from edge_relay.http.callers import require_worker
from edge_relay.http.raw_bodies import decode, read_bounded
from edge_relay.http.shielded import run_to_completion
from edge_relay.stores.log_store import NewHold
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.logs import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, LogPosition

CONTENT_TYPE = "application/octet-stream"
_OFFSET = re.compile(r"0|[1-9][0-9]{0,11}")


def add_routes(app: web.Application) -> None:
    """For the workers' listener."""
    app.router.add_put(routes.JOB_LOG, append)


async def append(request: web.Request) -> web.Response:
    """Store a chunk; the answer is the offset up to which the worker's log file is durable."""
    principal = await require_worker(request)
    job, offset = job_of(request), _offset(request)
    if request.content_type != CONTENT_TYPE:
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"send the body as {CONTENT_TYPE}")
    # Before the body: who is not the holder gets nothing read. A file that begins may be that of a new hold of the same
    # worker, whose bytes would pass for the former hold's.
    await request.app[keys.HOLDERS].require(job, principal.worker, fresh=offset == 0)
    body = await read_bounded(request, MAX_CHUNK_BYTES)
    data = decode(body, request.headers.get("Content-Encoding", ""), MAX_CHUNK_DECODED_BYTES)
    end = await run_to_completion(_append(request.app, job, principal.worker, offset, data))
    request.app[keys.METRICS].log_bytes.inc(max(0, min(len(data), end - offset)))
    return json_response(LogPosition(offset=end))


async def _append(app: web.Application, job: str, worker: str, offset: int, data: bytes) -> int:
    hold = await app[keys.HOLDERS].require(job, worker)
    logs = app[keys.LOGS]
    try:
        return await logs.append(hold.log_subject, hold.id, offset, data)
    except NewHold:
        hold = await app[keys.HOLDERS].require(job, worker, fresh=True)
        return await logs.append(hold.log_subject, hold.id, offset, data, begin=True)


def _offset(request: web.Request) -> int:
    values = request.query.getall("offset", [])
    if len(values) != 1 or len(request.query) != 1 or not _OFFSET.fullmatch(values[0]):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "send offset=N, a count of bytes, and nothing else in the query")
    return int(values[0])
