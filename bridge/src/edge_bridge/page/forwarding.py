"""One call of the page, forwarded to the relay and its answer sent back."""

import json
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from edge_bridge.page import headers, paths, views
from edge_bridge.page.callers import CSRF_VALUE, READS, Caller, airflow_url
from edge_bridge.page.event_streams import EVENT_STREAM, EventStreams, pass_on
from edge_bridge.page.relay_client import ANSWER_S, Answer, Call, RelayClient
from edge_bridge.page.trust import RelayTrust
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode

MAX_BODY_BYTES = 1 << 20
STREAM_SILENCE_S = 90.0
SEARCHED_JOBS = 200
"""Of those whose name contains that of the task."""


class Forwarding:
    """Forwards calls.

    Args:
        relay: Where to.
    """

    def __init__(self, relay: RelayClient) -> None:
        self._relay = relay
        self._trust = RelayTrust(relay)
        self._streams = EventStreams()

    async def api(self, request: Request, caller: Caller, rest: str) -> Response:
        """A call of the operators' API.

        Raises:
            EdgeError: There is no such path, the body is too large, or the relay can't be used.
        """
        call = _call(request, caller, rest, await _body(request))
        await self._trust.require()
        path = call.path.partition("?")[0]
        if path == routes.ADMIN_CHANGES and call.method == "GET":
            return await self._stream(call, caller)
        answer = await self._relay.ask(call)
        body = _in_airflow(answer, request) if path == routes.ADMIN_SESSION and call.method == "GET" else answer.body
        return Response(body, answer.status, headers.from_relay(answer.headers))

    async def open_view(self, request: Request, caller: Caller) -> str:
        """Where a link from Airflow's UI leads: to the job of a task instance, or to a list of jobs.

        Raises:
            EdgeError: The relay can't be used.
        """
        jobs = views.wanted(request.query_params)
        if jobs.is_one:
            await self._trust.require()
            sent = headers.to_relay({}, user=caller.name, role=caller.role, address=_address(request))
            for ended in ("false", "true"):
                query = urlencode({**jobs.query(), "ended": ended, "limit": SEARCHED_JOBS})
                answer = await self._relay.ask(Call("GET", f"{routes.ADMIN_JOBS}?{query}", sent))
                if answer.status == 200 and (found := views.job_view(answer.body, jobs)):
                    return found
        return views.jobs_view(jobs)

    async def _stream(self, call: Call, caller: Caller) -> Response:
        async with AsyncExitStack() as owner:
            self._streams.admit(caller.name, owner)
            upstream = await owner.enter_async_context(self._relay.open(call))
            sent = headers.from_relay(upstream.headers)
            if upstream.status == 200 and upstream.content_type == EVENT_STREAM:
                return pass_on(upstream, owner.pop_all(), sent)
        answer = await self._relay.ask(call)
        return Response(answer.body, answer.status, headers.from_relay(answer.headers))


def _call(request: Request, caller: Caller, rest: str, body: bytes | None) -> Call:
    path = paths.relay_path(rest)
    query = request.scope.get("query_string", b"")
    if path is None or not paths.is_safe_query(query):
        raise EdgeError(ErrorCode.NOT_FOUND, "the page has no such path")
    sent = headers.to_relay(request.headers, user=caller.name, role=caller.role, address=_address(request))
    if query:
        path = f"{path}?{query.decode('ascii')}"
    silence_s = STREAM_SILENCE_S if rest == routes.ADMIN_CHANGES.removeprefix(f"{paths.API}/") else ANSWER_S
    return Call(request.method, path, sent, body, silence_s)


def _address(request: Request) -> str | None:
    """Where the browser is, as the api-server sees it: a relay that trusts the api-server writes it into the audit."""
    return request.client.host if request.client else None


async def _body(request: Request) -> bytes | None:
    """JSON, of a limited size.

    Raises:
        EdgeError: `payload_too_large`, `unsupported_media_type`.
    """
    if request.method in READS:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise EdgeError(ErrorCode.PAYLOAD_TOO_LARGE, f"the body has more than {MAX_BODY_BYTES >> 20} MiB")
    kind = headers.media_type(request.headers.get("content-type", ""))
    if body and kind != "application/json":
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    return bytes(body)


def _in_airflow(answer: Answer, request: Request) -> bytes:
    """The session as the page needs it here: where Airflow is, and what to send with a change."""
    if answer.status != 200:
        return answer.body
    session: dict[str, Any] = json.loads(answer.body)
    session |= {"airflow_url": airflow_url(request), "csrf": CSRF_VALUE}
    return json.dumps(session).encode()
