"""Which address counts for a client: what a client writes itself never does."""

import pytest

from edge_relay.limits.addresses import ClientAddresses, group


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["made up, 192.0.2.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["192.0.2.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["192.0.2.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_last_address_that_is_no_proxys(peer: str, forwarded: list[str], client: str) -> None:
    assert ClientAddresses(["10.0.0.0/8"]).client(peer, forwarded) == client


def test_without_proxies_nobody_is_believed() -> None:
    assert ClientAddresses([]).client("10.0.0.1", ["198.51.100.7"]) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.7"),
        ("", ""),
    ],
)
def test_one_client_has_a_whole_network_of_ipv6(address: str, counted: str) -> None:
    assert group(address) == counted
