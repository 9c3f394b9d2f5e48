"""The worker can reach nothing but the forward proxy."""

import pytest

from local.system.proxy import host_and_port
from local.system.system import LocalSystem


async def test_direct_connections_from_the_sandbox_are_blocked(system: LocalSystem) -> None:
    sandbox = system.workers["edge-1"].sandbox
    if sandbox.kind == "none":
        pytest.skip("this run has no isolation, as configured")
    assert {probe.name for probe in sandbox.probes} == {"relay", "NATS"}
    assert sandbox.is_isolated, sandbox


async def test_the_proxy_carries_the_worker_to_the_relay_only(system: LocalSystem) -> None:
    relay = "{}:{}".format(*host_and_port(system.relay_facts.url))
    assert relay in system.proxy.tunnels()
