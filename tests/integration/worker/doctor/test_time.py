"""Whatever hangs, the doctor comes to an end, and names what hung."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from support.doctor.examination import Patient
from support.network.broken_paths import OPENED, front, proxy
from support.network.certificates import Certificates

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.soak]
WHOLE_S = 30


def _hang(patient: Patient) -> None:
    """A runtime that never answers anything."""
    (patient.folder / "python").write_text("#!/bin/sh\nexec sleep 600\n")


@asynccontextmanager
async def _silence() -> AsyncIterator[int]:
    """A port that takes connections and never says a word."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("where", ["proxy.tls", "proxy.tunnel", "tls.chain"])
async def test_what_hangs_is_named_in_time(worker: Patient, where: str) -> None:
    _hang(worker)
    async with _silence() as port, proxy(OPENED, leads_to=port) as good_proxy:
        through = {
            "proxy.tls": f"https://127.0.0.1:{port}",
            "proxy.tunnel": f"http://127.0.0.1:{port}",
            "tls.chain": good_proxy,
        }[where]
        await _named_in_time(worker, where, {"HTTPS_PROXY": through})


async def test_a_relay_that_never_answers(worker: Patient, certificates: Certificates) -> None:
    _hang(worker)

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(600)
        return web.Response()

    async with front(hang, certificates.server_context()) as url:
        env = {"EDGE_WORKER_RELAY_URL": url, "EDGE_WORKER_CA_FILE": str(certificates.ca_file)}
        await _named_in_time(worker, "relay.url", env)


async def _named_in_time(patient: Patient, where: str, env: dict[str, str]) -> None:
    began = time.monotonic()
    report = await patient.examined(env=env)
    took_s = time.monotonic() - began
    assert report.all("failed") == [where, "runtime.python"]
    assert took_s < WHOLE_S
