"""`/v1/admin`: what operators do, on the internal listener, with an access token."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_relay.http.bodies import JsonBodies, job_of, json_response
from edge_relay.http.callers import Callers
from edge_relay.jobs.administration import JobAdministration
from edge_relay.workers.administration import WorkerAdministration
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import LABEL_RULE, WorkerName
from edge_schemas.wire.workers import CancelRequest, ResolveRequest

_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


class AdminHandlers:
    """Workers and jobs, on the operators' listener."""

    def __init__(
        self, callers: Callers, bodies: JsonBodies, workers: WorkerAdministration, jobs: JobAdministration
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._workers = workers
        self._jobs = jobs

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.ADMIN_WORKERS, self.list_workers),
            web.post(routes.ADMIN_WORKER_REVOKE, self.revoke_worker),
            web.post(routes.ADMIN_WORKER_RESOLVE, self.resolve_conflict),
            web.get(routes.ADMIN_JOB, self.show_job),
            web.post(routes.ADMIN_JOB_CANCEL, self.cancel_job),
            web.post(routes.ADMIN_JOB_REDRIVE, self.redrive_job),
        ]

    async def list_workers(self, request: web.Request) -> web.Response:
        """All workers that ever enrolled, with the content of their last poll."""
        await self._callers.operator(request)
        return json_response(await self._workers.list())

    async def revoke_worker(self, request: web.Request) -> web.Response:
        """End a worker's credential. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.ADMIN)
        await self._workers.revoke(_worker_of(request), operator=operator)
        return web.Response(status=204)

    async def resolve_conflict(self, request: web.Request) -> web.Response:
        """Decide which of two agents is the worker. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        worker = _worker_of(request)
        body = await self._bodies.large(request, operator.name, ResolveRequest)
        await self._workers.resolve_conflict(worker, body, operator=operator)
        return web.Response(status=204)

    async def show_job(self, request: web.Request) -> web.Response:
        """The record of a job, without its workload and without the last answer to its task."""
        await self._callers.operator(request)
        return json_response(await self._jobs.show(job_of(request)))

    async def cancel_job(self, request: web.Request) -> web.Response:
        """Withdraw a job; answers with its record: a final state may have arrived earlier."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        job = job_of(request)
        body = await self._bodies.large(request, operator.name, CancelRequest)
        return json_response(await self._jobs.cancel(job, operator=operator, reason=body.reason))

    async def redrive_job(self, request: web.Request) -> web.Response:
        """End the parking of a job. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        await self._jobs.redrive(job_of(request), operator=operator)
        return web.Response(status=204)


def _worker_of(request: web.Request) -> str:
    try:
        return _WORKER.validate_python(request.match_info["worker"])
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker's name is {LABEL_RULE}") from None
