"""The worker can reach nothing but the forward proxy."""

import pytest

from local.system.proxy import host_and_port
from local.system.system import LocalSystem


async def test_no_direct_way_leads_out_of_the_box(system: LocalSystem) -> None:
    facts = system.workers["edge-1"].facts
    if facts.kind == "none":
        pytest.skip("this run was told to do without isolation")
    assert {probe.name for probe in facts.probes} == {"relay", "NATS"}
    assert facts.tight, facts


async def test_the_proxy_carries_the_worker_to_the_relay_only(system: LocalSystem) -> None:
    relay = "{}:{}".format(*host_and_port(system.relay_facts.url))
    assert relay in system.proxy.tunnels()
