"""The forward proxy between the edge and the relay: CONNECT only, with basic authentication.

The process is `local.system.proxy_server`; it gets the login on its standard input and notes each tunnel in a file.
"""

import json
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local.processes.child import Child, clean_environment
from local.system.ports import choose_port, is_listening


@dataclass(frozen=True)
class ProxyLogin:
    """What the edge presents to the proxy, made anew for each system."""

    user: str = "edge"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


class ForwardProxy:
    """The proxy as a child process; can be stopped and started again on its port, which cuts the edge off."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.login = ProxyLogin()
        self.port = choose_port(3128)
        self._tunnels = directory / "tunnels.log"
        self._child = self._make()

    @property
    def child(self) -> Child:
        """The process of the moment."""
        return self._child

    @property
    def url(self) -> str:
        """Its address without the login."""
        return f"http://127.0.0.1:{self.port}"

    def url_with_login(self, port: int | str | None = None) -> str:
        """A value for `HTTPS_PROXY`, through another local port if one is given. A secret."""
        return f"http://{self.login.user}:{self.login.password}@127.0.0.1:{port or self.port}"

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            ChildFailed: It does not.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._child = self._make()
        order = {"user": self.login.user, "password": self.login.password}
        await self._child.start(stdin=json.dumps(order).encode())
        await self._child.until(lambda: is_listening(self.port), timeout_s=30)

    async def stop(self) -> None:
        """Stop it; the connections it carries break."""
        await self._child.stop(grace_s=1)

    def tunnels(self) -> list[str]:
        """`host:port` of every tunnel it opened, oldest first."""
        return self._tunnels.read_text().split() if self._tunnels.exists() else []

    def _make(self) -> Child:
        argv = [sys.executable, "-m", "local.system.proxy_server", "--port", str(self.port), "--tunnels", str(self._tunnels)]
        env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])})
        return Child("forward proxy", argv, log=self.directory / "proxy.log", cwd=self.directory, env=env)


def host_and_port(url: str) -> tuple[str, int]:
    """Where a URL leads."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443, "nats": 4222}[parts.scheme]
