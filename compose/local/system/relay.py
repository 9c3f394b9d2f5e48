"""The relay: `edge-relay standalone`, which runs nats-server and one relay, and further replicas of the relay."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from edge_schemas.wire import routes
from local.processes.child import Child, clean_environment
from local.system.paths import PROGRAMS
from local.system.ports import choose_port, is_listening


@dataclass(frozen=True)
class RelayFacts:
    """The contents of `standalone.json`.

    Attributes:
        url: For workers.
        operator_url: For `/v1/admin` and `/metrics`.
        ca_file: The development CA that signed the relay's certificate.
        secrets_dir: Passwords of the NATS users, and the secret that relay and gate share.
    """

    url: str
    operator_url: str
    ca_file: Path
    nats_url: str
    secrets_dir: Path
    access_token_file: Path


class Relay:
    """The relay and its nats-server as a child process.

    Attributes:
        gate_ports: Ports at which the relay expects the keepers' gates.
        facts: None until the relay is up.
    """

    def __init__(self, directory: Path, *, keepers: int = 1) -> None:
        self.directory = directory
        self.gate_ports = [choose_port(8799) for _ in range(keepers)]
        self.facts: RelayFacts | None = None
        self._data = directory / "data"
        ports = {"--port": 8443, "--operator-port": 8444, "--nats-port": 4222}
        argv = [
            *(str(PROGRAMS / "edge-relay"), "standalone", "--data-dir", str(self._data)),
            *(word for url in self.gate_urls for word in ("--gate-url", url)),
            *(word for option, port in ports.items() for word in (option, str(choose_port(port)))),
        ]
        self.child = Child("relay", argv, log=directory / "relay.log", cwd=directory, env=clean_environment())

    @property
    def gate_urls(self) -> list[str]:
        """URLs of the keepers' gates."""
        return [f"http://127.0.0.1:{port}" for port in self.gate_ports]

    @property
    def nats_pid(self) -> int | None:
        """The process id of nats-server, while it runs. When nats-server dies, the relay's process restarts it."""
        try:
            return int((self._data / "nats" / "nats-server.pid").read_text())
        except FileNotFoundError:
            return None

    def replica(self, name: str) -> "Replica":
        """A further replica with the same NATS and the same certificate, in its own process."""
        assert self.facts is not None
        return Replica(self.directory / name, self.facts, tls=self._data / "tls", gate_urls=self.gate_urls)

    async def start(self) -> RelayFacts:
        """Start the relay and wait until it has written its facts.

        Raises:
            ChildFailed: The relay does not come up.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.child.start()
        await self.child.wait_until(self._is_up, timeout_s=60)
        assert self.facts is not None
        return self.facts

    async def _is_up(self) -> bool:
        file = self._data / "standalone.json"
        if not file.exists():
            return False
        found: dict[str, Any] = json.loads(file.read_text())
        if found["pid"] != self.child.pid:
            return False  # from an earlier run
        self.facts = RelayFacts(
            url=found["relay_url"],
            operator_url=found["operator_url"],
            ca_file=Path(found["ca_file"]),
            nats_url=found["nats_url"],
            secrets_dir=Path(found["secrets_dir"]),
            access_token_file=Path(found["access_token_file"]),
        )
        return True

    async def enroll_token(self, *, queues: Sequence[str], site: str) -> str:
        """Create a token with which one worker can enroll within ten minutes.

        Raises:
            aiohttp.ClientError: The relay rejects the call or cannot be reached.
        """
        assert self.facts is not None
        access = self.facts.access_token_file.read_text().strip()
        request = {"queues": list(queues), "site": site, "uses": 1, "ttl_s": 600}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.post(
                self.facts.operator_url + routes.ADMIN_ENROLL_TOKENS,
                json=request,
                headers={"Authorization": f"Bearer {access}"},
                raise_for_status=True,
            ) as answer,
        ):
            return str((await answer.json())["token"])

    async def stop(self) -> None:
        """Stop the relay and nats-server."""
        await self.child.stop(grace_s=15)


class Replica:
    """One more relay, which can be killed while nats-server keeps running.

    Attributes:
        url: For workers.
    """

    def __init__(self, directory: Path, facts: RelayFacts, *, tls: Path, gate_urls: Sequence[str]) -> None:
        self._port, operators = choose_port(), choose_port()
        self.url = f"https://127.0.0.1:{self._port}"
        settings = {
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(self._port),
            "RELAY_OPERATORS_PORT": str(operators),
            "RELAY_TLS_CERT_FILE": str(tls / "relay.pem"),
            "RELAY_TLS_KEY_FILE": str(tls / "relay.key"),
            "RELAY_NATS_URLS": facts.nats_url,
            "RELAY_NATS_PASSWORD_FILE": str(facts.secrets_dir / "relay.password"),
            "RELAY_GATE_URLS": ",".join(gate_urls),
            "RELAY_GATE_KEY_FILE": str(facts.secrets_dir / "gate.secret"),
        }
        argv = [str(PROGRAMS / "edge-relay"), "serve"]
        env = clean_environment(settings)
        self.child = Child(directory.name, argv, log=directory / "relay.log", cwd=directory, env=env)
        self._directory = directory

    async def start(self) -> None:
        """Start the relay and wait until it listens.

        Raises:
            ChildFailed: It does not listen.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        await self.child.start()
        await self.child.wait_until(lambda: is_listening(self._port), timeout_s=60)
