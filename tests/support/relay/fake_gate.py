"""A keeper's gate on a real socket: checks who calls, answers what it is told to, signed or not."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from edge_schemas.gate.auth import SIGNATURE_HEADER, GateCall, check_call, sign_answer
from edge_schemas.wire.routes import EXECUTION_ORIGIN, GATE_CENTRE, ORIGIN_HEADER, REQUEST_ID_HEADER, WORKER_HEADER

KEY = b"the secret of relay and gate"


@dataclass
class FakeGate:
    """What it answers with, and what it has seen.

    Attributes:
        calls: Those of jobs, only where the signature was right.
        asked_for_centre: Questions for the centre's facts.
        headers: Of each of them, with lower-case names.
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

    async def handle(self, request: web.Request) -> web.Response:
        """Any call."""
        call = GateCall(
            request.method,
            request.raw_path,
            request.headers.get(WORKER_HEADER, ""),
            request.headers.get(REQUEST_ID_HEADER, ""),
            await request.read(),
        )
        nonce = check_call(KEY, call, request.headers.get(SIGNATURE_HEADER, ""), now=time.time())
        if nonce is None:
            self.refused += 1
            return web.Response(status=401)
        if call.target == GATE_CENTRE:
            self.asked_for_centre.append(call)
        else:
            self.calls.append(call)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        sent = b"" if request.method == "HEAD" else self.body
        headers = {
            ORIGIN_HEADER: EXECUTION_ORIGIN,
            "Refreshed-API-Token": "a-token-that-must-not-travel",
            "Set-Cookie": "a=b",
            **self.answer_headers,
            SIGNATURE_HEADER: sign_answer(self.key, nonce, self.status, sent),
        }
        return web.Response(status=self.status, body=sent, headers=headers)


@asynccontextmanager
async def running_gate() -> AsyncIterator[FakeGate]:
    """A gate on a free port of loopback."""
    gate = FakeGate()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", gate.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gate
    finally:
        await runner.cleanup()
