"""`/v1/admin`: what operators do, on the internal listener, with an access token. Each change is audited."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_broker.subjects import worker_notice
from edge_relay.http import keys
from edge_relay.http.bodies import job_of, json_response, read_model
from edge_relay.http.callers import require_operator
from edge_relay.http.shielded import run_to_completion
from edge_schemas.life import agents
from edge_schemas.life.events import Redrive, Withdraw
from edge_schemas.life.model import JobRecord
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import LABEL_RULE, WorkerName
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.workers import (
    CancelRequest,
    EnrollTokenRequest,
    ResolveRequest,
    WorkerAccess,
    WorkerList,
    WorkerState,
    WorkerSummary,
)

_READS_AT_ONCE = 32
_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


def add_routes(app: web.Application) -> None:
    """For the operators' listener."""
    app.router.add_post(routes.ADMIN_ENROLL_TOKENS, create_enroll_token)
    app.router.add_get(routes.ADMIN_WORKERS, list_workers)
    app.router.add_post(routes.ADMIN_WORKER_REVOKE, revoke_worker)
    app.router.add_post(routes.ADMIN_WORKER_RESOLVE, resolve_conflict)
    app.router.add_get(routes.ADMIN_JOB, show_job)
    app.router.add_post(routes.ADMIN_JOB_CANCEL, cancel_job)
    app.router.add_post(routes.ADMIN_JOB_REDRIVE, redrive_job)


async def create_enroll_token(request: web.Request) -> web.Response:
    """Make a token. A repeat makes another one, which expires unused."""
    operator = await require_operator(request)
    body = await read_model(request, EnrollTokenRequest)
    token = await run_to_completion(request.app[keys.ACCESS].create_enroll_token(body, now=datetime.now(UTC)))
    await request.app[keys.AUDIT].record(
        "enroll-token-created", operator=operator.name, site=body.site, queues=", ".join(body.queues), uses=body.uses
    )
    return json_response(token, status=201)


async def list_workers(request: web.Request) -> web.Response:
    """All workers that ever enrolled, with what their last poll said."""
    await require_operator(request)
    entries = request.app[keys.WORKERS]
    limit = asyncio.Semaphore(_READS_AT_ONCE)

    async def summarise(access: WorkerAccess) -> WorkerSummary:
        async with limit:
            return summary(access, await entries.get(access.worker), datetime.now(UTC))

    everybody = sorted(request.app[keys.CREDENTIALS].workers(), key=lambda access: access.worker)
    return json_response(WorkerList(workers=tuple(await asyncio.gather(*map(summarise, everybody)))))


async def revoke_worker(request: web.Request) -> web.Response:
    """End a worker's credential. A repeat changes nothing."""
    operator = await require_operator(request)
    await run_to_completion(_revoke(request.app, _worker_of(request), operator.name))
    return web.Response(status=204)


async def _revoke(app: web.Application, worker: str, operator: str) -> None:
    secret_hash = await _require_worker(app, worker)
    await app[keys.ACCESS].revoke(secret_hash, now=datetime.now(UTC))
    await app[keys.CREDENTIALS].announce(secret_hash)
    await app[keys.AUDIT].record("worker-revoked", operator=operator, worker=worker)


async def resolve_conflict(request: web.Request) -> web.Response:
    """Decide which of two agents is the worker. A repeat changes nothing."""
    operator = await require_operator(request)
    worker = _worker_of(request)
    body = await read_model(request, ResolveRequest)
    await _require_worker(request.app, worker)
    if await run_to_completion(request.app[keys.WORKERS].resolve_conflict(worker, keep_newer=body.keep == "newer")):
        await request.app[keys.AUDIT].record(
            "credential-resolved", operator=operator.name, worker=worker, keep=body.keep
        )
    return web.Response(status=204)


async def _require_worker(app: web.Application, worker: str) -> str:
    """The hash of its secret.

    Raises:
        EdgeError: `not_found`.
    """
    secret_hash = await app[keys.ACCESS].holder_of_name(worker)
    if secret_hash is None:
        raise EdgeError(ErrorCode.NOT_FOUND, f"there is no worker {worker}: 'edge-relay workers list' shows all names")
    return secret_hash


async def show_job(request: web.Request) -> web.Response:
    """The record of a job, without its workload and without what its task was answered."""
    await require_operator(request)
    record = await request.app[keys.RECORDS].get(job_of(request))
    if record is None:
        raise EdgeError(ErrorCode.NOT_FOUND, "there is no such job, or it ended more than seven days ago")
    return json_response(_without_content(record))


async def cancel_job(request: web.Request) -> web.Response:
    """Withdraw a job; answers with its record, as a final state may have been faster. A repeat changes nothing."""
    operator = await require_operator(request)
    job = job_of(request)
    body = await read_model(request, CancelRequest)
    return json_response(await run_to_completion(_cancel(request.app, job, operator.name, body.reason)))


async def _cancel(app: web.Application, job: str, operator: str, reason: str) -> JobRecord:
    event = Withdraw(f"cancelled by operator {operator}: {reason}", datetime.now(UTC))
    before, after = await app[keys.RECORDS].change(job, event)
    if after is not before:
        await app[keys.AUDIT].record("job-cancelled", operator=operator, job=job, queue=after.queue, reason=reason)
    if after.holder is not None:
        await app[keys.BROKER].publish(worker_notice(after.holder.worker))
    return _without_content(after)


def _without_content(record: JobRecord) -> JobRecord:
    return record.model_copy(update={"job": None, "last_write": None})


async def redrive_job(request: web.Request) -> web.Response:
    """End the parking of a job; the executor, which watches records, publishes it again. A repeat changes nothing.

    Its history stays in `EDGE_DEAD` until the stream's age limit.
    """
    operator = await require_operator(request)
    job = job_of(request)
    before, after = await run_to_completion(request.app[keys.RECORDS].change(job, Redrive(datetime.now(UTC))))
    if after is not before:
        await request.app[keys.AUDIT].record("job-redriven", operator=operator.name, job=job)
    return web.Response(status=204)


def summary(access: WorkerAccess, entry: WorkerEntry | None, now: datetime) -> WorkerSummary:
    """A worker as operators see it, by its credential and its last poll."""
    conflict = None if entry is None else entry.conflict
    tolerances = [job.offline.tolerance_s for job in entry.jobs if job.offline is not None] if entry else []
    return WorkerSummary(
        worker=access.worker,
        site=access.site,
        team=access.team,
        queues=access.settings.queues,
        state=_state(access, entry, now),
        enrolled_at=access.enrolled_at,
        hostname=entry.agent.host or access.hostname if entry else access.hostname,
        last_poll_at=entry.agent.last_poll_at if entry else None,
        slots=entry.slots if entry else None,
        jobs=len(entry.jobs) if entry else None,
        tolerance_s=min(tolerances, default=None),
        conflict=() if conflict is None else (_where(conflict.older), _where(conflict.newer)),
        airflow=entry.versions.airflow if entry else None,
        no_jobs_reason=entry.no_jobs_reason if entry else None,
    )


def _state(access: WorkerAccess, entry: WorkerEntry | None, now: datetime) -> WorkerState:
    """What an operator has to act upon comes first."""
    if access.revoked_at is not None:
        return WorkerState.REVOKED
    if entry is None:
        return WorkerState.NEVER_SEEN
    if entry.conflict is not None:
        return WorkerState.CONFLICT
    if agents.is_offline(entry, now):
        return WorkerState.OFFLINE
    return WorkerState.DRAINING if entry.draining else WorkerState.ONLINE


def _where(agent: AgentSeen) -> str:
    return f"{agent.host or 'unnamed host'} ({agent.address or 'address unknown'})"


def _worker_of(request: web.Request) -> str:
    try:
        return _WORKER.validate_python(request.match_info["worker"])
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker's name is {LABEL_RULE}") from None
