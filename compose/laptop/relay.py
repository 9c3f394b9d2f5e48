"""The exposed part: `edge-relay standalone`, which runs nats-server and the relay."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from edge_schemas import routes
from laptop.ports import choose
from laptop.processes import Child, clean_environment

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
    """The relay and its nats-server as a child process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gate_port = choose(8799)
        self.facts: RelayFacts | None = None
        self._data = directory / "data"
        gate = f"http://127.0.0.1:{self.gate_port}"
        ports = {"--port": 8443, "--operator-port": 8444, "--nats-port": 4222}
        argv = [
            *(str(PROGRAMS / "edge-relay"), "standalone", "--data-dir", str(self._data), "--gate-url", gate),
            *(word for option, port in ports.items() for word in (option, str(choose(port)))),
        ]
        self.child = Child("relay", argv, log=directory / "relay.log", cwd=directory, env=clean_environment())

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
