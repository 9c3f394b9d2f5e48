"""`* /v1/jobs/{job}/execution/{path}`: a task's call to Airflow's Execution API, forwarded to the gate."""

from aiohttp import web

from edge_relay.http.bodies import job_of
from edge_relay.http.callers import Callers
from edge_relay.http.middlewares import REQUEST_ID
from edge_relay.http.raw_bodies import pass_on, read_bounded, send
from edge_relay.jobs.execution import ExecutionCalls, gate_target
from edge_schemas.gate.auth import GateCall
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_memory import BodyMemory

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""GET includes HEAD."""


class PassthroughHandlers:
    """Execution API calls, on the workers' listener."""

    def __init__(self, callers: Callers, memory: BodyMemory, calls: ExecutionCalls) -> None:
        self._callers = callers
        self._memory = memory
        self._calls = calls

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        path = routes.JOB_EXECUTION.replace("{path}", r"{path:[\s\S]*}")
        return [web.route(method, path, self.forward) for method in METHODS]

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Call the gate for the job's holder; its answer is returned unchanged."""
        principal = await self._callers.worker(request)
        job = job_of(request)
        limits = self._calls.limits
        target, kind = gate_target(request.raw_path, job, limits)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body without a content encoding")
        await self._calls.check_holder(job, principal)
        # What is in memory of the answer counts as well, until a slow worker has nearly all of it.
        with self._memory.account(principal.worker, large_from=0) as account:
            body = await read_bounded(request, limits.max_call_bytes, limits.body_too_large, on_bytes=account.add)
            call = GateCall(request.method, target, principal.worker, request[REQUEST_ID], body)
            async with self._calls.call(call, kind, request.headers, account) as answer:
                if answer.streamed is None:
                    return await send(request, answer.status, answer.headers, answer.body)
                length = answer.streamed.length
                return await pass_on(request, answer.status, answer.headers, answer.streamed, length)
