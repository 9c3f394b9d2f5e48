"""The forward proxy between the edge and the relay: CONNECT only, with basic authentication.

Its process is `local.system.proxy_server`, which reads the login from its standard input and records each tunnel in a
file.
"""

import json
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local.processes.child import Child, clean_environment
from local.system.paths import COMPOSE
from local.system.ports import choose_port, is_listening


@dataclass(frozen=True)
class ProxyLogin:
    """The login that edge workers send to the proxy; every system has its own."""

    user: str = "edge"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


class ForwardProxy:
    """The proxy as a child process. A stop cuts off the edge; the next start uses the same port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.login = ProxyLogin()
        self.port = choose_port(3128)
        self._tunnels = directory / "tunnels.log"
        self._child = self._new_child()

    @property
    def child(self) -> Child:
        """The current process."""
        return self._child

    @property
    def url(self) -> str:
        """Its address without the login."""
        return f"http://127.0.0.1:{self.port}"

    def url_with_login(self, port: int | str | None = None) -> str:
        """A value for `HTTPS_PROXY`, with another local port if one is given. A secret."""
        return f"http://{self.login.user}:{self.login.password}@127.0.0.1:{port or self.port}"

    async def start(self) -> None:
        """Start the proxy and wait until it listens.

        Raises:
            ChildFailed: It does not listen.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._child = self._new_child()
        login = {"user": self.login.user, "password": self.login.password}
        await self._child.start(stdin=json.dumps(login).encode())
        await self._child.wait_until(lambda: is_listening(self.port), timeout_s=30)

    async def stop(self) -> None:
        """Stop the proxy; its open connections break."""
        await self._child.stop(grace_s=1)

    def tunnels(self) -> list[str]:
        """`host:port` of every tunnel that was opened, oldest first."""
        return self._tunnels.read_text().split() if self._tunnels.exists() else []

    def _new_child(self) -> Child:
        options = ["--port", str(self.port), "--tunnels", str(self._tunnels)]
        argv = [sys.executable, "-m", "local.system.proxy_server", *options]
        env = clean_environment({"PYTHONPATH": str(COMPOSE)})
        return Child("forward proxy", argv, log=self.directory / "proxy.log", cwd=self.directory, env=env)


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443, "nats": 4222}[parts.scheme]
