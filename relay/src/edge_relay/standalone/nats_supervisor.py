"""Supervises the nats-server of `standalone`: starts it, restarts it when it dies, stops it at the end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from edge_relay.standalone.nats_server import STOP_TIMEOUT_S, NatsServer, ServerFailed
from edge_service.private_files import make_private_dir, write_file

log = structlog.get_logger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
STEADY_S = 30.0
"""A server that ran for so long did not fail because of its start."""
PID_FILE = "nats-server.pid"
_POLL_S = 0.05


@asynccontextmanager
async def running_nats(binary: Path, directory: Path, passwords: Mapping[str, str], port: int) -> AsyncIterator[str]:
    """A nats-server while inside; yields its URL.

    A server that a killed run left running is stopped first: two servers on one store destroy it.

    Raises:
        ServerFailed: It does not become ready.
    """
    make_private_dir(directory)
    await _stop_leftover(_leftover(directory, binary), directory, binary)
    server = NatsServer(binary, directory, passwords, port=port)
    await _start(server, directory)
    supervisor = asyncio.create_task(_restart_on_end(server, directory), name="nats-server")
    supervisor.add_done_callback(_report_end)
    try:
        yield server.url
    finally:
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        await server.stop()
        (directory / PID_FILE).unlink(missing_ok=True)


async def _start(server: NatsServer, directory: Path) -> None:
    await server.start()
    write_file(directory / PID_FILE, f"{server.pid}\n".encode())


async def _restart_on_end(server: NatsServer, directory: Path) -> None:
    """Restart it each time it ends, after a delay that grows if it ends soon after its start."""
    loop = asyncio.get_running_loop()
    delay_s, started_at = FIRST_DELAY_S, loop.time()
    up = True
    while True:
        if up:
            status = await server.wait()
            log.error("nats_server_ended", status=status)
            if loop.time() - started_at > STEADY_S:
                delay_s = FIRST_DELAY_S
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        started_at = loop.time()
        try:
            await _start(server, directory)
            up = True
            log.warning("nats_server_restarted", pid=server.pid)
        except ServerFailed as error:
            up = False
            # No traceback: the text holds the server's log.
            log.error("nats_server_start_failed", error=str(error), retry_s=delay_s)  # noqa: TRY400


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("nats_supervisor_failed", exc_info=error)


def _leftover(directory: Path, binary: Path) -> int | None:
    """The process of a nats-server that a killed run left running."""
    try:
        pid = int((directory / PID_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_running(pid, binary, directory) else None


async def _stop_leftover(pid: int | None, directory: Path, binary: Path) -> None:
    if pid is None:
        return
    log.warning("nats_server_leftover_stopped", pid=pid)
    for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
        os.kill(pid, number)
        try:
            async with asyncio.timeout(patience_s):
                while _is_running(pid, binary, directory):  # noqa: ASYNC110  # the end of another process's child is not reported
                    await asyncio.sleep(_POLL_S)
                return
        except TimeoutError:
            continue
    raise ServerFailed(f"the nats-server of an earlier run, process {pid}, does not end: stop it, then start again")


def _is_running(pid: int, binary: Path, directory: Path) -> bool:
    """Whether this process is that nats-server, and not another process that got the same number later."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return _process_exists(pid) if not Path("/proc/self").exists() else False
    named = Path(os.fsdecode(words[0])).name == binary.name
    return named and os.fsencode(directory / "nats-server.conf") in words and state != "Z"


def _process_exists(pid: int) -> bool:
    """Where there is no /proc: whether there is such a process of this user."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
