"""The address of a client, as the limits by address count it."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network


class ClientAddresses:
    """Knows the proxies in front of the relay.

    Args:
        trusted: Networks of proxies and load balancers whose `X-Forwarded-For` is believed.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = tuple(ip_network(network) for network in trusted)

    def is_trusted(self, peer: str) -> bool:
        """Whether a peer is one of the proxies: its address says nothing about the client."""
        if not self._trusted or (address := _parse(peer)) is None:
            return False
        return any(address in network for network in self._trusted)

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The address of the client.

        Args:
            peer: The other end of the connection.
            forwarded_for: The values of `X-Forwarded-For`. Each proxy adds the address it saw at the end; what comes
                before the trusted ones' is whatever the client wrote.
        """
        if not self._trusted:
            return peer
        seen = peer
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        while self.is_trusted(seen) and hops:
            hop = hops.pop()
            if _parse(hop) is None:
                break
            seen = hop
        return seen


def group(address: str) -> str:
    """What counts as one address: of IPv6 a whole /64, since one client has all of it."""
    parsed = _parse(address) if ":" in address else None
    return str(IPv6Network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
