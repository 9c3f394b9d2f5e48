"""Whoever answers on a task host's socket, and whatever the agent was started by: the agent continues."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.connection import HostDied
from edge_worker.host_client.launcher import HostChild


@pytest.mark.parametrize("lines", [b"[]\n", b"{}\n", b'{"airflow": "3", "pid": 1}\n[]\n', b"no json\n"])
async def test_a_host_that_speaks_another_language_counts_as_dead(
    lines: bytes, short_dir: Path, tmp_path: Path
) -> None:
    hung_up = asyncio.Event()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(lines)
        await reader.read()
        writer.close()
        hung_up.set()

    host = TaskHost(
        runtime_python=tmp_path / "no-python",
        runtime_dir=short_dir,
        state_dir=tmp_path,
        gateway_socket=short_dir / "s",
        env={},
        bundles={},
        hostname="w",
    )
    server = await asyncio.start_unix_server(babble, host._setup.socket())
    async with server:
        with pytest.raises(HostDied):
            await host._serve()
        await hung_up.wait()


async def test_a_child_that_the_kernel_has_buried_has_ended() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = await asyncio.to_thread(_run_true)
        assert HostChild(process).status() == 255
    finally:
        signal.signal(signal.SIGCHLD, before)


def _run_true() -> int:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    return pid
