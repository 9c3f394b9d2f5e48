"""The commands of policies, as the page describes them, and how they fail."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, KEEPER
from edge_broker.policies.access_store import AccessStore
from edge_broker.policies.policy_store import PolicyStore
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.policies.accesses import Access, AccessDay, add_all
from edge_schemas.policies.policy import PolicyMode, PolicyTarget
from support.airflow.real_airflow import RealAirflow
from support.nats.server import PASSWORDS, connected
from support.pages.policy_page import POLICIES, Scene
from support.system.inspection import messages

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow

QUEUE = PolicyTarget("queue", "plant")
NOW = datetime.now(UTC)


def used(*names: tuple[str, str]) -> AccessDay:
    return AccessDay(
        accesses=tuple(
            Access(kind=kind, name=name, allowed=3, first_at=NOW, last_at=NOW, dags=("pump_daily",))
            for kind, name in names
        )
    )


@pytest.fixture
async def keeper(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """NATS with what the jobs of the queue used; Airflow's settings name it."""
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", nats.url)
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__KEEPER_PASSWORD", PASSWORDS[KEEPER])
    async with connected(nats, KEEPER) as broker:
        batch = used(("connection", "erp_main"), ("variable", "plant.rate"))
        await AccessStore(broker).add(QUEUE, NOW.date(), batch, keeper="k", number=1)
        yield broker


@pytest.fixture
def scene(airflow: RealAirflow, keeper: Broker, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Scene:
    return Scene(tmp_path, capfd)


async def test_the_page_is_carried_out_as_it_is_written(scene: Scene, keeper: Broker, nats: NatsServer) -> None:
    assert set(POLICIES.commands) == POLICIES.run.keys()
    store = PolicyStore(keeper)
    modes = []
    for command in POLICIES.commands:
        await POLICIES.run[command](scene, command)
        policy = (await store.get(QUEUE)).policy
        modes.append(None if policy is None else policy.mode)
    log, enforce = PolicyMode.LOG, PolicyMode.ENFORCE
    assert modes == [None, None, None, log, log, log, enforce, enforce, log, None]
    async with connected(nats, ADMIN) as admin:
        found = await messages(admin, "EDGE_AUDIT", "edge.audit.queue.plant.>")
    events = [AuditEvent.model_validate_json(one["data"]) for one in found]
    assert [event.action for event in events] == ["policy-set"] * 4 + ["policy-removed"]
    assert all("@" in event.actor.name and event.queue == "plant" for event in events)
    assert events[2].before is not None
    assert events[2].after is not None
    assert (events[2].before["mode"], events[2].after["mode"]) == ("log", "enforce")
    assert events[2].reason == "nothing was missing for a month"


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ("set --queue q", 2, "nothing to set"),
        ("set --mode log", 2, "give either --queue or --site"),
        ("set --queue q --site s --mode log", 2, "give either --queue or --site"),
        ("set --site A_B --mode log", 2, "--site must be a DNS label"),
        ("set --queue q --allow secret=x", 2, "is no kind"),
        ("set --queue q --file absent.toml", 2, "can't be read"),
        ("accesses --queue q --days 41", 2, "--days must be 1 to 40"),
        ("show --queue q", 1, "has no policy"),
        ("remove --queue q", 1, "has no policy"),
    ],
)
async def test_a_wrong_command_is_explained(scene: Scene, options: str, status: int, text: str) -> None:
    found, printed, errors = await scene.status(f"airflow edge-relay policy {options}")
    assert (found, printed) == (status, "")
    assert text in errors


async def test_output_for_programs_is_json(scene: Scene, keeper: Broker) -> None:
    await scene.run("airflow edge-relay policy set --site eu-1 --mode log --allow connection=a*")
    [row] = json.loads(await scene.run("airflow edge-relay policy show --json"))
    assert (row["for"], row["name"], row["allow"]) == ("site", "eu-1", {"connection": ["a*"]})
    assert "eu-1" in await scene.run("airflow edge-relay policy show")
    found = json.loads(await scene.run("airflow edge-relay policy accesses --queue plant --json"))
    assert [one["name"] for one in found["accesses"]] == ["erp_main", "plant.rate"]


async def test_many_keepers_lose_no_count(nats: NatsServer, keeper: Broker) -> None:
    """All add to the same entry at the same moment, and each repeats a batch as after a lost confirmation."""
    async with connected(nats, KEEPER) as other:
        stores = (AccessStore(keeper), AccessStore(other))

        async def add(name: int) -> None:
            for number in (1, 2, 2, 3):
                batch = used(("connection", "erp_main"))
                store = stores[name % 2]
                await store.add(QUEUE, NOW.date(), batch, keeper=f"keeper-{name}", number=number)

        await asyncio.gather(*(add(name) for name in range(6)))
    found, _ = add_all(await AccessStore(keeper).days(QUEUE, since=NOW))
    assert {one.name: one.allowed for one in found} == {"erp_main": 3 + 6 * 3 * 3, "plant.rate": 3}
