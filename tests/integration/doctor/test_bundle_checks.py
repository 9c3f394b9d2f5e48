"""`airflow edge-relay doctor` on published bundles, and `bundles prune`, against a real NATS and Airflow's database."""

import asyncio
import hashlib
import json
import shutil
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from edge_bridge.doctor.bundle_checks import BundleDoctor
from edge_bridge.keeper.bundles import cli
from edge_bridge.settings import Conf
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.publishing import BundlePublisher, Wanted
from edge_broker.connection.broker import Broker
from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_broker.layout import LayoutSettings, apply
from edge_broker.permissions import KEEPER
from edge_broker.subjects import BUNDLES
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.bundles.manifest import BundleFile, manifest_of
from edge_service.findings import Finding, Status
from support.airflow import airflow_home
from support.bundles.airflow_bundles import LOCAL
from support.bundles.empty import nothing_published
from support.nats.server import PASSWORDS, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUNDLE = airflow_home.BUNDLE


@pytest.fixture(scope="module", autouse=True)
def _tables() -> None:
    airflow_home.create_tables()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def broker(server: NatsServer) -> AsyncIterator[Broker]:
    """With nothing published."""
    async with nothing_published(server) as admin:
        yield admin


@pytest.fixture(autouse=True)
def folder(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a bundle that a keeper is to publish, as Airflow is configured and its database has it."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "d.py").write_text("one")
    bundles = [{"name": BUNDLE, "classpath": LOCAL, "kwargs": {"path": str(folder)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__PUBLISH_BUNDLES", BUNDLE)
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", server.url)
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__KEEPER_PASSWORD", PASSWORDS[KEEPER])
    seen(None)
    yield folder
    seen(None)


def seen(version: str | None) -> None:
    """The dag-processor has seen this version."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        row = DagBundleModel(name=BUNDLE, version=version)
        row.active = True
        session.merge(row)


async def publish(broker: Broker, text: str) -> str:
    """A version with this text in its only file; returns its digest."""
    data = text.encode()
    piece = hashlib.sha256(data).hexdigest()
    manifest = manifest_of([BundleFile("d.py", False, len(data), (piece,))])
    await BundlePublisher(broker, "a test").publish(Wanted(BUNDLE, manifest), lambda _: data)
    return manifest.digest


async def findings(server: NatsServer) -> dict[str, Finding]:
    """The finding of each check, alone: what it needs is not checked."""
    from airflow.configuration import conf

    found: dict[str, Finding] = {}
    async with NatsDoctor([server.url], None, {KEEPER: PASSWORDS[KEEPER]}, setting="a setting") as nats:
        for check in nats.checks():
            await check.run()
        for check in BundleDoctor(cast("Conf", conf), nats).checks():
            result = await check.run()
            (found[check.id],) = [result] if isinstance(result, Finding) else result
    return found


def warned(found: dict[str, Finding], *texts: str) -> None:
    """There is one warning, with these texts."""
    (one,) = [finding for finding in found.values() if finding.status is not Status.OK]
    assert one.status is Status.WARNING
    for text in texts:
        assert text in f"{one.detail} {one.advice}"


async def test_what_is_published_as_it_should_be_is_ok(server: NatsServer, broker: Broker) -> None:
    await publish(broker, "one")
    assert {finding.status for finding in (await findings(server)).values()} == {Status.OK}


async def test_a_bundle_that_is_not_published_at_all(server: NatsServer, broker: Broker) -> None:
    warned(await findings(server), f"{BUNDLE!r} is not published", "log of the keeper")


async def test_a_folder_that_differs_from_what_is_published(server: NatsServer, broker: Broker, folder: Path) -> None:
    await publish(broker, "one")
    (folder / "d.py").write_text("two")
    warned(await findings(server), str(folder), "differ from what was published")


async def test_a_folder_that_is_on_another_machine(server: NatsServer, broker: Broker, folder: Path) -> None:
    await publish(broker, "one")
    shutil.rmtree(folder)
    warned(await findings(server), "can't be read on this machine", "run the doctor there")


async def test_a_version_that_airflow_has_seen_and_that_is_not_published(server: NatsServer, broker: Broker) -> None:
    await publish(broker, "one")
    seen("c0ffee")
    warned(await findings(server), "'c0ffee'", "which Airflow has seen last, is not published")


async def test_a_store_that_is_nearly_full(server: NatsServer, broker: Broker) -> None:
    await publish(broker, "one")
    used = (await broker.api(f"STREAM.INFO.{BUNDLES}"))["state"]["bytes"]
    await apply(broker, LayoutSettings(bundles_max_bytes=used + 10))
    try:
        warned(await findings(server), "the store of bundles uses", "--bundles-max", "bundles prune")
    finally:
        await apply(broker, LayoutSettings(bundles_max_bytes=1 << 30))


async def test_the_command_removes_what_is_old_and_a_trial_removes_nothing(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each version that is not needed is named with the time from which it is removed; a trial notes no time.

    Run in a thread: it has an event loop of its own.
    """

    async def prune(**options: object) -> str:
        await asyncio.to_thread(cli.prune, Namespace(**{"dry_run": False, "older_than": None, **options}))
        return capsys.readouterr().out

    old, current = await publish(broker, "one"), await publish(broker, "two")
    said = await prune(dry_run=True)
    assert f"kept for now: {BUNDLE} {old}" in said
    assert "not needed; removed 24 h after the next search" in said
    said = await prune()
    bundles = PublishedBundles(broker)
    (entry,) = [entry for entry in await bundles.versions(BUNDLE) if entry.digest == old]
    assert entry.unneeded_since is not None
    assert f"removed from {entry.unneeded_since + timedelta(days=1):%Y-%m-%d %H:%M:%S} UTC on" in said
    assert "kept for now: 1 version; a version is removed once it was not needed for 24 h" in said
    assert await prune(dry_run=True) == said.replace("removed: 0", "would be removed: 0")
    before = datetime.now(UTC) - timedelta(hours=1)
    await bundles.put(entry.model_copy(update={"unneeded_since": before, "at": before}))
    assert "removed: 0 versions" in await prune()
    assert f"would be removed: {BUNDLE} {old}" in await prune(dry_run=True, older_than=600)
    assert [entry.digest for entry in await bundles.versions(BUNDLE)] in ([old, current], [current, old])
    said = await prune(older_than=600)
    assert f"removed: {BUNDLE} {old}" in said
    assert "removed: 1 versions, 1 manifests, 1 pieces" in said
    assert [entry.digest for entry in await bundles.versions(BUNDLE)] == [current]
    with pytest.raises(SystemExit, match="2"):
        await prune(older_than=1)
    assert "must be 600 at least" in capsys.readouterr().err


async def test_a_bundle_is_unpublished_by_a_command(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    digest = await publish(broker, "one")
    await asyncio.to_thread(cli.unpublish, Namespace(bundle=BUNDLE))
    assert "is not published any more" in capsys.readouterr().out
    bundles = PublishedBundles(broker)
    assert await bundles.current(BUNDLE) is None
    assert [entry.digest for entry in await bundles.versions(BUNDLE)] == [digest]
    with pytest.raises(SystemExit, match="1"):
        await asyncio.to_thread(cli.unpublish, Namespace(bundle=BUNDLE))
    assert "is not published" in capsys.readouterr().err
