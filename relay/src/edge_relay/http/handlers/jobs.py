"""What a worker does with a granted job: start, finish, release."""

import structlog
from aiohttp import web

from edge_relay.http.bodies import JsonBodies, job_of
from edge_relay.http.callers import Callers
from edge_relay.identity.principals import Principal
from edge_relay.jobs.finish import JobFinish
from edge_relay.jobs.release import JobRelease
from edge_relay.jobs.start import JobStart
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import MAX_FINISH_BYTES, FinishRequest, ReleaseRequest, StartRequest


class JobHandlers:
    """Start, finish and release of jobs, on the workers' listener."""

    def __init__(
        self, callers: Callers, bodies: JsonBodies, start: JobStart, finish: JobFinish, release: JobRelease
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._start = start
        self._finish = finish
        self._release = release

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.post(routes.JOB_START, self.start),
            web.post(routes.JOB_FINISH, self.finish),
            web.post(routes.JOB_RELEASE, self.release),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """`POST /v1/jobs/{job}/start`: exactly one worker becomes the holder; a repeat gets the same answer."""
        principal, job = await self._caller(request)
        await self._start.start(principal, job, await self._bodies.small(request, principal.worker, StartRequest))
        return web.Response(status=204)

    async def finish(self, request: web.Request) -> web.Response:
        """`POST /v1/jobs/{job}/finish`: the job's processes are gone; a repeat gets the same answer."""
        principal, job = await self._caller(request)
        body = await self._bodies.up_to(request, principal.worker, FinishRequest, MAX_FINISH_BYTES)
        await self._finish.finish(principal, job, body)
        return web.Response(status=204)

    async def release(self, request: web.Request) -> web.Response:
        """`POST /v1/jobs/{job}/release`: return a granted job to its queue."""
        principal, job = await self._caller(request)
        await self._release.release(principal, job, await self._bodies.small(request, principal.worker, ReleaseRequest))
        return web.Response(status=204)

    async def _caller(self, request: web.Request) -> tuple[Principal, str]:
        principal = await self._callers.worker(request)
        job = job_of(request)
        structlog.contextvars.bind_contextvars(job=job)
        return principal, job
