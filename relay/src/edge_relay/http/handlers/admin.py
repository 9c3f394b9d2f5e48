"""`/v1/admin`: what operators do, on the internal listener, with an access token."""

from aiohttp import web

from edge_relay.http.bodies import JsonBodies, job_of, json_response
from edge_relay.http.callers import Callers
from edge_relay.jobs.administration import JobAdministration
from edge_relay.workers.administration import WorkerAdministration
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.workers import CancelRequest, EnrollTokenRequest


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
            web.post(routes.ADMIN_ENROLL_TOKENS, self.create_enroll_token),
            web.get(routes.ADMIN_WORKERS, self.list_workers),
            web.get(routes.ADMIN_JOB, self.show_job),
            web.post(routes.ADMIN_JOB_CANCEL, self.cancel_job),
            web.post(routes.ADMIN_JOB_REDRIVE, self.redrive_job),
        ]

    async def create_enroll_token(self, request: web.Request) -> web.Response:
        """Create an enrolment token. A repeat creates another token; the first one expires unused."""
        operator = await self._callers.operator(request, Role.ADMIN)
        body = await self._bodies.large(request, operator.name, EnrollTokenRequest)
        return json_response(await self._workers.create_enroll_token(body, operator=operator), status=201)

    async def list_workers(self, request: web.Request) -> web.Response:
        """All workers that ever enrolled, with the content of their last poll."""
        await self._callers.operator(request)
        return json_response(await self._workers.list())

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
