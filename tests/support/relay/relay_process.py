"""A relay in a process of its own."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from support.nats.server import PASSWORDS, eventually, free_port
from support.relay.edge import Edge


@asynccontextmanager
async def relay_process(
    edge: Edge,
    directory: Path,
    *,
    answers: str = "/readyz",
    open_files: int | None = None,
    tls: bool = False,
    extra: dict[str, str] | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A relay next to those of `edge`, once it `answers` well there; killed at the end.

    Args:
        edge: Whose NATS it uses.
        directory: Is created, for its files.
        answers: The path that must answer before it is used.
        open_files: The limit of open files; None leaves it as it is.
        tls: Serve with the certificate of `edge`.
    """
    password = _password_file(directory)
    port = free_port()
    environment = {
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": str(port),
        "RELAY_OPERATORS_PORT": "0",
        "RELAY_NATS_URLS": edge.server.url,
        "RELAY_NATS_PASSWORD_FILE": str(password),
    }
    if tls:
        settings = edge.relays[0].parts.settings
        environment |= {
            "RELAY_TLS_CERT_FILE": str(settings.tls_cert_file),
            "RELAY_TLS_KEY_FILE": str(settings.tls_key_file),
        }
    environment |= extra or {}
    files = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({open_files}, {open_files})); "
    code = (files if open_files else "") + (
        "from edge_service.logging import configure_logging; from edge_relay.serve import run; "
        "from edge_relay.settings import Settings; configure_logging('info'); run(Settings())"
    )
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env=environment, stdout=log, stderr=log
        )
    try:
        context = ssl.create_default_context(cafile=str(edge.ca))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            await eventually(lambda: _answers(session, url + answers, process), timeout_s=30, what="the relay answers")
            yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _password_file(directory: Path) -> Path:
    directory.mkdir()
    file = directory / "password"
    file.write_text(PASSWORDS["relay"])
    return file


async def _answers(session: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False
