"""Counts of accesses reach NATS exactly once, whatever happens on the way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge_bridge.keeper.policy import access_counter
from edge_bridge.keeper.policy.access_counter import AccessCounter
from edge_bridge.keeper.policy.figures import PolicyFigures
from edge_bridge.keeper.policy.uses import Use
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import KEEPER
from edge_broker.policies.access_store import AccessStore
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.policies.accesses import MAX_NAMES, AccessOutcome, add_all
from edge_schemas.policies.policy import AccessKind, PolicyTarget
from support.nats.server import connected, eventually, running_server

QUEUE, SITE = PolicyTarget("queue", "q"), PolicyTarget("site", "s")
ERP = Use(AccessKind.CONNECTION, "erp")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def broker(server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(server, KEEPER) as running:
        yield running


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counter(broker: Broker, registry: CollectorRegistry) -> AccessCounter:
    return AccessCounter(broker, PolicyFigures(registry, lambda: True))


def count(counter: AccessCounter, *uses: Use, dag: str = "d", targets: tuple[PolicyTarget, ...] = (QUEUE,)) -> None:
    counter.count(targets, dict.fromkeys(uses or (ERP,), AccessOutcome.ALLOWED), dag)


async def stored(broker: Broker, target: PolicyTarget = QUEUE) -> dict[str, int]:
    found, others = add_all(await AccessStore(broker).days(target, since=datetime.now(UTC)))
    return {one.name: one.allowed for one in found} | {f"others {one.kind}": one.allowed for one in others}


async def test_an_outage_of_nats_loses_nothing(server: NatsServer, broker: Broker, counter: AccessCounter) -> None:
    count(counter, targets=(QUEUE, SITE))
    await counter.flush()
    await server.stop(kill=True)
    await eventually(lambda: not broker.connected, what="the cut")
    for _ in range(3):
        count(counter)
        await counter.flush()
    await server.start()
    await broker.wait_connected(10)
    await counter.flush()
    await counter.flush()
    assert await stored(broker) == {"erp": 4}
    assert await stored(broker, SITE) == {"erp": 1}


async def test_a_lost_confirmation_counts_nothing_twice(
    broker: Broker, counter: AccessCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Bucket.put

    async def unconfirmed(bucket: Bucket, key: str, value: bytes, *, revision: int | None = None) -> int:
        await put(bucket, key, value, revision=revision)
        raise BrokerUnavailable("no confirmation")

    count(counter)
    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "put", unconfirmed)
        await counter.flush()
    count(counter)
    for _ in range(3):
        await counter.flush()
    assert await stored(broker) == {"erp": 2}


async def test_names_beyond_the_bound_are_counted_by_kind(broker: Broker, counter: AccessCounter) -> None:
    for number in range(MAX_NAMES + 10):
        count(counter, Use(AccessKind.VARIABLE, f"v{number}"), dag=f"d{number}")
    count(counter, Use(AccessKind.VARIABLE, "x" * 301), Use(AccessKind.VARIABLE, "v0"))
    await counter.flush()
    found = await stored(broker)
    assert (len(found), found["v0"], found["others variable"]) == (MAX_NAMES + 1, 2, 11)


async def test_queues_that_wait_for_nats_are_bounded(
    broker: Broker, counter: AccessCounter, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_counter, "MAX_WAITING", 3)
    for number in range(5):
        count(counter, targets=(PolicyTarget("queue", f"q{number}"),))
    assert registry.get_sample_value("edge_keeper_policy_accesses_dropped_total") == 2
    await counter.flush()
    assert await stored(broker, PolicyTarget("queue", "q2")) == {"erp": 1}
    assert await stored(broker, PolicyTarget("queue", "q3")) == {}
