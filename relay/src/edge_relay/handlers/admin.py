"""`/v1/admin`: what operators do, on the internal listener, with an access token. Each change is audited."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_relay import keys
from edge_relay.auth import require_operator
from edge_relay.bodies import job_of, json_response, read_model
from edge_relay.settling import settled
from edge_schemas import routes
from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.ids import LABEL_RULE, WorkerName
from edge_schemas.polls import WorkerEntry
from edge_schemas.records import Redrive
from edge_schemas.workers import EnrollTokenRequest, WorkerAccess, WorkerList, WorkerSummary

_READS_AT_ONCE = 32
_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


def add_routes(app: web.Application) -> None:
    """For the operators' listener."""
    app.router.add_post(routes.ADMIN_ENROLL_TOKENS, create_enroll_token)
    app.router.add_get(routes.ADMIN_WORKERS, list_workers)
    app.router.add_post(routes.ADMIN_WORKER_REVOKE, revoke_worker)
    app.router.add_post(routes.ADMIN_JOB_REDRIVE, redrive_job)


async def create_enroll_token(request: web.Request) -> web.Response:
    """Make a token. A repeat makes another one, which expires unused."""
    operator = await require_operator(request)
    body = await read_model(request, EnrollTokenRequest)
    token = await settled(request.app[keys.ACCESS].create_enroll_token(body, now=datetime.now(UTC)))
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
            return _summary(access, await entries.get(access.worker))

    everybody = sorted(request.app[keys.CREDENTIALS].workers(), key=lambda access: access.worker)
    return json_response(WorkerList(workers=tuple(await asyncio.gather(*map(summarise, everybody)))))


async def revoke_worker(request: web.Request) -> web.Response:
    """End a worker's credential. A repeat changes nothing."""
    operator = await require_operator(request)
    await settled(_revoke(request.app, _worker_of(request), operator.name))
    return web.Response(status=204)


async def _revoke(app: web.Application, worker: str, operator: str) -> None:
    secret_hash = await app[keys.ACCESS].holder_of_name(worker)
    if secret_hash is None:
        raise EdgeError(ErrorCode.NOT_FOUND, f"there is no worker {worker}")
    await app[keys.ACCESS].revoke(secret_hash, now=datetime.now(UTC))
    await app[keys.CREDENTIALS].announce(secret_hash)
    await app[keys.AUDIT].record("worker-revoked", operator=operator, worker=worker)


async def redrive_job(request: web.Request) -> web.Response:
    """End the parking of a job; the executor, which watches records, publishes it again. A repeat changes nothing.

    Its history stays in `EDGE_DEAD` until the stream's age limit.
    """
    operator = await require_operator(request)
    job = job_of(request)
    await settled(request.app[keys.RECORDS].change(job, Redrive()))
    await request.app[keys.AUDIT].record("job-redriven", operator=operator.name, job=job)
    return web.Response(status=204)


def _summary(access: WorkerAccess, entry: WorkerEntry | None) -> WorkerSummary:
    return WorkerSummary(
        worker=access.worker,
        site=access.site,
        team=access.team,
        queues=access.settings.queues,
        revoked=access.revoked_at is not None,
        enrolled_at=access.enrolled_at,
        hostname=access.hostname,
        last_poll_at=entry.last_poll_at if entry else None,
        slots=entry.slots if entry else None,
        jobs=len(entry.jobs) if entry else None,
    )


def _worker_of(request: web.Request) -> str:
    try:
        return _WORKER.validate_python(request.match_info["worker"])
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker's name is {LABEL_RULE}") from None
