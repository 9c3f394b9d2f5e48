"""A keeper publishes the bundles of Airflow's own configuration and removes old versions; one of all keepers does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from edge_bridge.keeper.bundles import publisher as publisher_module
from edge_bridge.keeper.bundles import service as service_module
from edge_bridge.keeper.bundles import sources
from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.bundles.service import BundleCare
from edge_bridge.keeper.bundles.settings import BundleSettings
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.permissions import KEEPER
from edge_broker.subjects import BUNDLES_BUCKET, kv_stream
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.bundles.manifest import open_manifest
from edge_service.task_cleanup import cancel_and_wait
from support.airflow import airflow_home
from support.bundles.empty import nothing_published
from support.nats.server import broker_settings, eventually, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLDER, VERSIONS = airflow_home.BUNDLE, "versions"
ALL = frozenset({"*"})


@pytest.fixture(scope="module", autouse=True)
def _tables() -> None:
    airflow_home.create_tables()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "PERIOD_S", 0.1)
    monkeypatch.setattr(publisher_module, "SHARE_OF_TIME", 1)
    monkeypatch.setattr(publisher_module, "RETRY_S", (0.2, 0.4))
    monkeypatch.setattr(service_module, "RESTART_S", 0.2)
    monkeypatch.setattr(service_module, "LEAD_RETRY_S", 0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def broker(server: NatsServer) -> AsyncIterator[Broker]:
    """Of an admin, with nothing published."""
    async with nothing_published(server) as admin:
        yield admin


@dataclass
class Bundles:
    """Two bundles in Airflow's configuration: a plain folder, and one with versions."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "folder"

    def write(self, name: str, text: str) -> None:
        """A file of the plain folder."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def commit(self, version: str, text: str) -> None:
        """A version of the other bundle, as the dag-processor will see it later."""
        folder = self.root / "versions" / version
        folder.mkdir(parents=True)
        (folder / "d.py").write_text(text)

    def seen(self, version: str) -> None:
        """The dag-processor has seen it."""
        bundle_row(VERSIONS, version)

    def config(self, **more: Any) -> str:
        """As JSON; more bundles by name with their class and arguments."""
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        versioned = "support.bundles.versioned_bundle.FolderOfVersions"
        bundles = {
            **{name: (classpath, kwargs) for name, (classpath, kwargs) in more.items()},
            FOLDER: (local, {"path": str(self.folder)}),
            VERSIONS: (versioned, {"root": str(self.root / "versions")}),
        }
        return json.dumps(
            [{"name": name, "classpath": path, "kwargs": kwargs} for name, (path, kwargs) in bundles.items()]
        )


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundles:
    made = Bundles(tmp_path)
    (tmp_path / "versions").mkdir()
    made.write("d.py", "one")
    made.commit("1", "one")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", made.config())
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    bundle_row(FOLDER, None)
    bundle_row(VERSIONS, "1")
    return made


def bundle_row(name: str, version: str | None) -> None:
    """What the dag-processor writes."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        row = DagBundleModel(name=name, version=version)
        row.active = True
        session.merge(row)


@dataclass
class RunOfVersions:
    """A DAG run that Airflow has pinned."""

    dag_id: str

    def set(self, **values: Any) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session(scoped=False) as session:
            session.execute(update(DagRun).where(DagRun.dag_id == self.dag_id).values(**values))


@pytest.fixture
def run(bundles: Bundles) -> Any:
    """A running one of the bundle with versions, not pinned yet."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with airflow_home.dag_run(1) as dag:
        with create_session(scoped=False) as session:
            session.execute(update(DagModel).where(DagModel.dag_id == dag.dag_id).values(bundle_name=VERSIONS))
        yield RunOfVersions(dag.dag_id)


@dataclass
class Care:
    """A keeper's part for bundles."""

    task: "asyncio.Task[None]"
    registry: CollectorRegistry

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    @property
    def leads(self) -> bool:
        return self.value("edge_keeper_bundles_leader") == 1


@asynccontextmanager
async def care(
    server: NatsServer, names: frozenset[str] = ALL, *, dispatches: Dispatches | None = None, **settings: Any
) -> AsyncIterator[Care]:
    chosen = BundleSettings(
        publish=names,
        **{"lock_life_s": 1.5, "first_after_s": 0.1, "interval": timedelta(seconds=0.2), **settings},
    )
    registry = CollectorRegistry()
    async with Broker(broker_settings(server, KEEPER)) as own:
        parts = BundleCare(
            chosen,
            own,
            dispatches or Dispatches(),
            metrics=BundleMetrics(registry),
            by="keeper of the test",
        )
        task = asyncio.create_task(parts.run())
        try:
            yield Care(task, registry)
        finally:
            await cancel_and_wait([task])
            with suppress(asyncio.CancelledError):
                await task


async def current(broker: Broker, bundle: str) -> str | None:
    """The content of `d.py` in the current version, read back from the store."""
    entry = await PublishedBundles(broker).current(bundle)
    return None if entry is None else await content(broker, entry.digest)


async def content(broker: Broker, digest: str) -> str:
    from edge_schemas.bundles.pieces import open_piece

    store = BundleStore(broker)
    frame = await store.manifest(digest)
    assert frame is not None
    (file,) = [file for file in open_manifest(frame, digest).files if file.path == "d.py"]
    (piece,) = file.pieces
    return open_piece((await store.frames([piece]))[piece], piece, file.size).decode()


async def becomes(broker: Broker, bundle: str, text: str) -> None:
    async def is_so() -> bool:
        return await current(broker, bundle) == text

    await eventually(is_so, what=f"{bundle} is published with {text!r}", timeout_s=20)


async def known(broker: Broker) -> dict[str, str]:
    """The content of each version of the bundle with versions."""
    entries = await PublishedBundles(broker).known(VERSIONS)
    return {entry.version: await content(broker, entry.digest) for entry in entries}


async def test_a_plain_folder_is_published_each_time_that_it_changes(
    server: NatsServer, broker: Broker, bundles: Bundles
) -> None:
    async with care(server) as keeper:
        await becomes(broker, FOLDER, "one")
        bundles.write("d.py", "two")
        await becomes(broker, FOLDER, "two")
        assert keeper.value("edge_keeper_bundle_publications_total", outcome="failed") == 0
        done = keeper.value("edge_keeper_bundle_publications_total", outcome="published")
        assert done == 3  # twice the folder, once the version of the other bundle
        await eventually(lambda: keeper.value("edge_keeper_bundle_versions") == 3)


async def test_only_what_the_setting_names_is_published(
    server: NatsServer, broker: Broker, bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    async with care(server, frozenset({VERSIONS, "typo"})):
        await becomes(broker, VERSIONS, "one")
        bundles.commit("2", "two")
        bundles.seen("2")
        await becomes(broker, VERSIONS, "two")
    assert await current(broker, FOLDER) is None


async def test_the_versions_that_runs_have_are_published_too(
    server: NatsServer, broker: Broker, bundles: Bundles, run: RunOfVersions
) -> None:
    """The newest is the current one; a run that is cleared brings its old version back."""
    for version in "23":
        bundles.commit(version, f"text of {version}")
    bundles.seen("3")
    run.set(bundle_version="2", state="success")
    async with care(server, first_after_s=60):
        await becomes(broker, VERSIONS, "text of 3")
        assert await known(broker) == {"3": "text of 3"}
        run.set(state="queued")

        async def both() -> bool:
            return await known(broker) == {"2": "text of 2", "3": "text of 3"}

        await eventually(both, what="the version of the run is published")
        assert await current(broker, VERSIONS) == "text of 3"
        bundles.seen("2")  # the branch was reset
        await becomes(broker, VERSIONS, "text of 2")


async def test_requirements_are_published_as_the_setting_says(
    server: NatsServer, broker: Broker, bundles: Bundles, run: RunOfVersions
) -> None:
    """A change of the setting alone counts, too. The old version of a run is from before the file."""
    published = PublishedBundles(broker)
    (bundles.root / "versions" / "1" / "gpu.txt").touch()
    bundles.commit("0", "before the file")
    run.set(bundle_version="0")

    async def requirements(bundle: str, version: str | None) -> dict[str, str] | None:
        entry = await published.current(bundle) if version is None else None
        digest = entry.digest if entry else await published.digest_of(bundle, version or "")
        found = digest and await published.get(bundle, digest)
        return found.requirements if found else None

    def are(bundle: str, version: str | None, expected: dict[str, str]) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return await requirements(bundle, version) == expected

        return check

    async with care(server):
        await eventually(are(VERSIONS, "0", {}), timeout_s=20, what="both versions are published")
        await eventually(are(VERSIONS, "1", {}), timeout_s=20, what="both versions are published")
        await eventually(are(FOLDER, None, {}), timeout_s=20, what="the folder is published")
    wanted = {VERSIONS: {"gpu": "gpu.txt"}, FOLDER: {"*": "all.txt"}}
    async with care(server, requirements=wanted) as keeper:
        await eventually(are(VERSIONS, "1", {"gpu": "gpu.txt"}), timeout_s=20, what="the setting counts")
        await eventually(lambda: keeper.value("edge_keeper_bundle_publications_total", outcome="failed") > 0)
        assert await requirements(FOLDER, None) == {}, "its file is missing"
        bundles.write("all.txt", "")
        await eventually(are(FOLDER, None, {"*": "all.txt"}), timeout_s=20, what="the file is there")
    assert await requirements(VERSIONS, "0") == {}


async def test_a_bundle_that_fails_delays_no_other_and_is_published_once_it_can_be(
    server: NatsServer,
    broker: Broker,
    bundles: Bundles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its error is logged, and names what is missing."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    missing = bundles.root / "missing"
    config = bundles.config(first=(local, {"path": str(missing)}))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", config)
    bundle_row("first", None)
    bundles.seen("gone")
    async with care(server) as keeper:
        await becomes(broker, FOLDER, "one")
        await eventually(lambda: keeper.value("edge_keeper_bundle_publications_total", outcome="failed") > 2)
        assert not keeper.task.done()
        missing.mkdir()
        (missing / "d.py").write_text("here now")
        bundles.seen("1")
        await becomes(broker, "first", "here now")
        await becomes(broker, VERSIONS, "one")
    said = capsys.readouterr().out
    assert str(missing) in said
    assert "git.example/x has no commit gone" in said
    assert "secret" not in said


async def test_an_error_is_logged_without_the_password_in_it() -> None:
    """Of a repository's URL."""
    said = sources.error_text(RuntimeError("can't clone https://me:s3cret@git.example/x"))
    assert said == "RuntimeError: can't clone https://…@git.example/x"


async def test_a_version_that_is_gone_delays_no_other_of_its_bundle(
    server: NatsServer, broker: Broker, bundles: Bundles, run: RunOfVersions
) -> None:
    bundles.seen("gone")
    run.set(bundle_version="1")
    async with care(server, first_after_s=60):

        async def is_known() -> bool:
            return set(await known(broker)) == {"1"}

        await eventually(is_known, what="the version of the run is published")


async def test_an_empty_folder_replaces_no_version(server: NatsServer, broker: Broker, bundles: Bundles) -> None:
    """Its disk may not be mounted."""
    async with care(server) as keeper:
        await becomes(broker, FOLDER, "one")
        (bundles.folder / "d.py").unlink()
        await eventually(lambda: keeper.value("edge_keeper_bundle_publications_total", outcome="failed") > 1)
        assert await current(broker, FOLDER) == "one"


async def test_of_two_keepers_one_works_and_the_other_follows_it(
    server: NatsServer, broker: Broker, bundles: Bundles
) -> None:
    """At once after an orderly end, and within a limited time after the death of the first."""
    async with care(server) as one:
        await eventually(lambda: one.leads)
        async with care(server) as two, care(server) as three:
            await becomes(broker, FOLDER, "one")
            assert not any(other.leads for other in (two, three))
            await cancel_and_wait([one.task])
            others = (two, three)
            await eventually(lambda: any(other.leads for other in others), timeout_s=5)
            bundles.write("d.py", "two")
            await becomes(broker, FOLDER, "two")
            assert [other.leads for other in others].count(True) == 1


class NoDatabase(Dispatches):
    """Airflow's database answers as long as a test allows it.

    Attributes:
        is_down: It does not.
    """

    is_down = False

    async def query(self, query: Callable[[], Any]) -> Any:
        if self.is_down:
            raise DatabaseUnavailable("OperationalError")
        return await super().query(query)


async def test_old_versions_are_removed_once_airflow_has_forgotten_them(
    server: NatsServer, broker: Broker, bundles: Bundles, run: RunOfVersions
) -> None:
    """Not while a run names them, although it has ended, and not while Airflow's database can't be read."""
    bundles.commit("2", "two")
    run.set(bundle_version="1")
    dispatches = NoDatabase()
    async with care(server, dispatches=dispatches, min_age=timedelta(0)) as keeper:
        await becomes(broker, VERSIONS, "one")
        bundles.seen("2")
        await becomes(broker, VERSIONS, "two")
        run.set(state="success")
        await _pruned_again(keeper)
        assert set(await known(broker)) == {"1", "2"}
        dispatches.is_down = True
        run.set(bundle_version="2")
        failed = keeper.value("edge_keeper_bundle_prunes_total", outcome="failed")
        await eventually(
            lambda: keeper.value("edge_keeper_bundle_prunes_total", outcome="failed") > failed + 1, what="it has tried"
        )
        assert set(await known(broker)) == {"1", "2"}
        dispatches.is_down = False

        async def one_left() -> bool:
            return set(await known(broker)) == {"2"}

        await eventually(one_left, what="the version is removed")
        await eventually(lambda: keeper.value("edge_keeper_bundle_removals_total", what="version") == 1)
        assert await current(broker, FOLDER) == "one"


async def _pruned_again(keeper: Care) -> None:
    """Two searches have ended after this moment began: the first may have begun before."""
    before = keeper.value("edge_keeper_bundle_prunes_total", outcome="ok")
    await eventually(lambda: keeper.value("edge_keeper_bundle_prunes_total", outcome="ok") >= before + 2)


async def test_without_the_bucket_it_waits_and_begins_once_there_is_one(
    server: NatsServer, broker: Broker, bundles: Bundles, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = kv_stream(BUNDLES_BUCKET)
    config = (await broker.api(f"STREAM.INFO.{stream}"))["config"]
    await broker.api(f"STREAM.DELETE.{stream}")
    async with care(server) as keeper:
        await eventually(lambda: "bundle_care_waits" in capsys.readouterr().out)
        assert not keeper.task.done()
        await broker.api(f"STREAM.CREATE.{stream}", config)
        await becomes(broker, FOLDER, "one")
