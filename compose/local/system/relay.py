"""The exposed part: `edge-relay standalone`, which runs nats-server and the relay, and replicas beside it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from edge_schemas.wire import routes
from local.processes.child import Child, clean_environment
from local.system.ports import choose_port, is_listening

PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class RelayFacts:
    """What `standalone.json` says.

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
        gate_ports: Where it looks for the keepers' gates.
        facts: Once it is up.
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
        """The keepers' gates."""
        return [f"http://127.0.0.1:{port}" for port in self.gate_ports]

    @property
    def nats(self) -> int | None:
        """The process id of nats-server, while it runs. When it dies, the relay's process starts it again."""
        try:
            return int((self._data / "nats" / "nats-server.pid").read_text())
        except FileNotFoundError:
            return None

    def replica(self, name: str) -> "Replica":
        """A further replica with the same NATS and the same certificate, in a process of its own."""
        assert self.facts is not None
        return Replica(self.directory / name, self.facts, tls=self._data / "tls", gate_urls=self.gate_urls)

    async def start(self) -> RelayFacts:
        """Start it and wait until it says where it is.

        Raises:
            ChildFailed: It does not come up.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.child.start()
        await self.child.until(self._up, timeout_s=60)
        assert self.facts is not None
        return self.facts

    async def _up(self) -> bool:
        file = self._data / "standalone.json"
        if not file.exists():
            return False
        said: dict[str, Any] = json.loads(file.read_text())
        if said["pid"] != self.child.pid:
            return False  # left over from a run before
        self.facts = RelayFacts(
            url=said["relay_url"],
            operator_url=said["operator_url"],
            ca_file=Path(said["ca_file"]),
            nats_url=said["nats_url"],
            secrets_dir=Path(said["secrets_dir"]),
            access_token_file=Path(said["access_token_file"]),
        )
        return True

    async def enroll_token(self, *, queues: Sequence[str], site: str) -> str:
        """A token with which one worker can enrol within ten minutes.

        Raises:
            aiohttp.ClientError: The relay refuses or is not there.
        """
        assert self.facts is not None
        access = self.facts.access_token_file.read_text().strip()
        order = {"queues": list(queues), "site": site, "uses": 1, "ttl_s": 600}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.post(
                self.facts.operator_url + routes.ADMIN_ENROLL_TOKENS,
                json=order,
                headers={"Authorization": f"Bearer {access}"},
                raise_for_status=True,
            ) as answer,
        ):
            return str((await answer.json())["token"])

    async def stop(self) -> None:
        """Stop relay and nats-server."""
        await self.child.stop(grace_s=15)


class Replica:
    """One more relay, which can be killed without taking nats-server along.

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
        """Start it and wait until it listens.

        Raises:
            ChildFailed: It does not.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        await self.child.start()
        await self.child.until(lambda: is_listening(self._port), timeout_s=60)
