"""`POST /v1/poll`: the one long poll of a worker."""

from aiohttp import web

from edge_relay.dispatch.long_polls import LongPolls
from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.callers import Callers
from edge_relay.http.raw_bodies import in_pieces
from edge_relay.limits.rates import RateLimit
from edge_schemas.wire import routes
from edge_schemas.wire.polls import Poll, PollAnswer


class PollHandlers:
    """Polls, on the workers' listener."""

    def __init__(self, callers: Callers, bodies: JsonBodies, rate: RateLimit, polls: LongPolls) -> None:
        self._callers = callers
        self._bodies = bodies
        self._rate = rate
        self._polls = polls

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.post(routes.POLL, self.poll)]

    async def poll(self, request: web.Request) -> web.StreamResponse:
        """Park a poll until there is something to send to its worker, or its poll timeout is over."""
        principal = await self._callers.worker(request)
        self._rate.take(principal.worker)
        await self._polls.wait_ready()
        report = await self._bodies.large(request, principal.worker, Poll)
        sent: web.StreamResponse | None = None

        async def send(answer: PollAnswer | None) -> None:
            nonlocal sent
            # Written here and not by the server: a lost connection must be noticed while grants can be returned, and so
            # must a worker that does not read them.
            sent = await in_pieces(request, web.Response(status=204) if answer is None else json_response(answer))
            await sent.prepare(request)
            await sent.write_eof()

        await self._polls.answer(principal, report, self._callers.address(request), send)
        return sent or web.Response(status=204)
