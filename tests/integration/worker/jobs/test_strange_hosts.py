"""Whoever answers on a task host's socket, and whatever the agent was started by: the agent continues."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.connection import HostDied
from edge_worker.host_client.launcher import HostChild
from support.nats.server import eventually


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


async def test_a_reason_that_stays_is_a_warning_once(
    short_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that runs commands only has no Airflow, and its log would be full of that."""
    monkeypatch.setattr("edge_worker.host_client.client._FIRST_PAUSE_S", 0.01)
    caplog.set_level(logging.DEBUG, "edge_worker")
    host = TaskHost(
        runtime_python=tmp_path / "no-python",
        runtime_dir=short_dir,
        state_dir=tmp_path,
        gateway_socket=short_dir / "s",
        env={},
        bundles={},
        hostname="w",
    )

    def levels() -> list[int]:
        return [record.levelno for record in caplog.records if record.message == "task_host_lost"]

    running = asyncio.create_task(host.run_forever())
    try:
        await eventually(lambda: len(levels()) >= 3)
    finally:
        running.cancel()
    assert levels()[:3] == [logging.WARNING, logging.DEBUG, logging.DEBUG]


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
