"""What the checks of NATS share: the servers that were found, and a probe for each role that could log in."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from edge_broker.connection.api import ApiAnswer
from edge_broker.doctor.address import Address
from edge_broker.doctor.probe import Probe
from edge_broker.doctor.rights_probe import allows
from edge_broker.doctor.wire import Denied


class NatsSession:
    """The state of one examination. Earlier checks fill it, later ones use it.

    Args:
        urls: Servers of one cluster.
        ca_file: As for `BrokerSettings`.
        passwords: Of the roles that the doctor logs in as; the first one is the component's own.
        setting: The name of the setting with the servers, for advice.

    Attributes:
        addresses: Servers whose names were resolved.
        greeted: Servers that answered.
        usable: Servers at which a role may log in.
        probes: A connection for each role that could log in.
    """

    def __init__(
        self, urls: Sequence[str], ca_file: Path | None, passwords: Mapping[str, str], *, setting: str
    ) -> None:
        self.urls = urls
        self.ca_file = ca_file
        self.passwords = dict(passwords)
        self.setting = setting
        self.addresses: list[Address] = []
        self.greeted: list[Probe] = []
        self.usable: list[Address] = []
        self.probes: dict[str, Probe] = {}
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Close all connections."""
        await self._stack.aclose()

    async def connect(self, address: Address) -> Probe:
        """A connection that is closed with the session.

        Raises:
            OSError: There is no connection.
            ProbeFailed: What listens there is no NATS server.
        """
        probe = await Probe.greet(address)
        self._stack.callback(probe.close)
        return probe

    def may(self, call: str) -> bool:
        """Whether one of the roles may make a call of the API."""
        return self._role_for(call) is not None

    async def api(self, call: str, body: Mapping[str, object] | None = None) -> ApiAnswer:
        """A call of the JetStream API, as the first role that may make it.

        Raises:
            Denied: No role may.
            ProbeFailed: The server does not answer.
            JetStreamError: The server rejected the call.
        """
        role = self._role_for(call)
        if role is None:
            raise Denied(f"no role of {', '.join(self.probes)} may ask {call}")
        return await self.probes[role].api(call, body)

    def _role_for(self, call: str) -> str | None:
        return next((role for role in self.probes if allows(role, f"$JS.API.{call}")), None)
