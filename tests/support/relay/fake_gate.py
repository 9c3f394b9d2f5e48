"""A keeper's gate on a real socket: checks the relay's signature and answers as the test has set it.

It knows no task instance, so it has no findings about one.

`tests/contract/test_gate.py` runs the same cases against this gate and a real one.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from edge_schemas.gate.auth import (
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    GateCall,
    check_call,
    sign_answer,
    sign_head,
)
from edge_schemas.gate.limits import DEFAULT_LIMITS
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.routes import (
    EXECUTION_ORIGIN,
    GATE_CENTRE,
    GATE_WHY,
    ORIGIN_HEADER,
    PROBLEM_TYPE,
    REQUEST_ID_HEADER,
    WORKER_HEADER,
)

KEY = b"the secret of relay and gate"
LARGE_BODY_BYTES = 64 * 1024


@dataclass
class FakeGate:
    """The answers, and the calls so far.

    Attributes:
        key: Signs the answers. Calls are always checked with `KEY`.
        status: Of the answers to jobs' calls.
        body: Of all answers.
        answer_headers: Of all answers; a body of the Execution API has exactly this content type.
        calls: Calls of jobs with a right signature.
        asked_for_centre: Calls for the centre's facts with a right signature.
        headers: Of each of these calls, with lower-case names.
        refused: Calls with a wrong signature.
        signs_at_end: Large bodies are signed behind the body for relays that ask for it; older keepers do not.
        sent_instead: Replaces the body after it was signed.
        sent_status: Replaces the status after it was signed.
        cut_after: Where the connection is cut, in bytes of the body.
    """

    url: str = ""
    key: bytes = KEY
    status: int = 200
    body: bytes = b'{"ok": true}'
    answer_headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    calls: list[GateCall] = field(default_factory=list)
    asked_for_centre: list[GateCall] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0
    signs_at_end: bool = True
    sent_instead: bytes | None = None
    sent_status: int | None = None
    cut_after: int | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any call."""
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        worker = request.headers.get(WORKER_HEADER, "")
        call = GateCall(request.method, request.raw_path, worker, request_id, await request.read())
        nonce = check_call(KEY, call, request.headers.get(SIGNATURE_HEADER, ""), now=time.time())
        if nonce is None:
            self.refused += 1
            problem = (
                EdgeError(ErrorCode.UNAUTHENTICATED).problem(request_id or None).model_dump_json(exclude_none=True)
            )
            return web.Response(status=401, body=problem.encode(), headers={"Content-Type": PROBLEM_TYPE})
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if call.target == GATE_CENTRE:
            self.asked_for_centre.append(call)
            return self._signed(nonce, 200, self.body, {})
        if call.target.partition("?")[0] == GATE_WHY:
            unknown = EdgeError(ErrorCode.NOT_FOUND, "there is no such task instance").problem(request_id or None)
            text = unknown.model_dump_json(exclude_none=True).encode()
            return self._signed(nonce, unknown.status, text, {"Content-Type": PROBLEM_TYPE})
        self.calls.append(call)
        sent = b"" if request.method == "HEAD" else self.body
        answer = self._signed(nonce, self.status, sent, {ORIGIN_HEADER: EXECUTION_ORIGIN})
        body = sent if self.sent_instead is None else self.sent_instead
        asks = request.headers.get(SIGNED_AT_END_HEADER) == SIGNED_AT_END
        if asks and self.signs_at_end and len(sent) > LARGE_BODY_BYTES:
            body += answer.headers[SIGNATURE_HEADER].encode()
            answer.headers[SIGNATURE_HEADER] = sign_head(self.key, nonce, self.status, len(sent))
            answer.headers[SIGNED_AT_END_HEADER] = SIGNED_AT_END
        answer.body = body
        if self.sent_status is not None:
            answer.set_status(self.sent_status)
        return answer if self.cut_after is None else await self._cut(request, answer, body, self.cut_after)

    @staticmethod
    async def _cut(request: web.Request, answer: web.Response, body: bytes, after: int) -> web.StreamResponse:
        cut = web.StreamResponse(status=answer.status, headers=answer.headers)
        cut.content_length = len(body)
        await cut.prepare(request)
        await cut.write(body[:after])
        assert request.transport is not None
        request.transport.close()
        return cut

    def _signed(self, nonce: str, status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={
                "Refreshed-API-Token": "a-token-that-must-not-travel",
                "Set-Cookie": "a=b",
                **headers,
                **self.answer_headers,
                SIGNATURE_HEADER: sign_answer(self.key, nonce, status, body),
            },
        )


@asynccontextmanager
async def running_gate() -> AsyncIterator[FakeGate]:
    """A gate on a free port of loopback."""
    gate = FakeGate()
    app = web.Application(client_max_size=DEFAULT_LIMITS.max_call_bytes)
    app.router.add_route("*", r"/{path:[\s\S]*}", gate.handle)
    runner = web.AppRunner(app, access_log=None, max_line_size=DEFAULT_LIMITS.max_line_bytes)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gate
    finally:
        await runner.cleanup()
