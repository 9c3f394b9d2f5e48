"""Which version of its bundle a job gets from a real executor, and what becomes of one without its version."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_bridge.executor.metrics import process_metrics
from edge_broker.bundles.entries import CurrentVersion, KnownVersion, PublishedVersion
from edge_broker.bundles.published import PublishedBundles
from edge_broker.connection.broker import Broker
from edge_broker.subjects import BUNDLES_BUCKET, kv_stream
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import GiveUp
from edge_schemas.wire.jobs import BundleRef
from support.airflow.airflow_home import BUNDLE, dag_run, set_task, task_rows
from support.nats.server import connected, eventually

Centres = Callable[..., Any]
OLD, NEW = "a" * 64, "b" * 64


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__BUNDLE_WAIT", "2")


class Published:
    """What a publisher writes at the end."""

    def __init__(self, broker: Broker) -> None:
        self._bundles = PublishedBundles(broker)

    async def version(self, digest: str, version: str | None = None, *, current: bool = False, **more: Any) -> None:
        """A version; perhaps known to Airflow by a name, perhaps the current one."""
        at = datetime.now(UTC)
        entry = PublishedVersion(
            name=BUNDLE, digest=digest, files=1, size=1, stored_bytes=1, at=at, by="a test", **more
        )
        await self._bundles.put(entry)
        if version is not None:
            await self._bundles.put(KnownVersion(name=BUNDLE, version=version, digest=digest))
        if current:
            await self._bundles.put(CurrentVersion(name=BUNDLE, digest=digest, at=at, by="a test"))

    async def unpublish(self) -> None:
        """There is no current version any more."""
        current = await self._bundles.current(BUNDLE)
        assert current is not None
        await self._bundles.remove(current)


@pytest.fixture
async def publish(server: NatsServer) -> AsyncIterator[Published]:
    async with connected(server, "keeper") as broker:
        yield Published(broker)


def pin(dag: Any, version: str | None) -> None:
    """Airflow has pinned the run to this version."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        session.execute(update(DagRun).where(DagRun.dag_id == dag.dag_id).values(bundle_version=version))


def again(dag: Any) -> None:
    """The task was cleared: it is scheduled again."""
    set_task(dag.dag_id, "t0", state="scheduled", external_executor_id=None)


async def bundle_of(edge: Any, job: str) -> BundleRef | None:
    record = await edge.appears(job)
    bundle: BundleRef | None = record.job.bundle
    message = await edge.message(record)
    assert message is not None
    return bundle


async def knows(centre: Any, digest: str) -> None:
    mirror = centre.executor._background._bundles
    await eventually(lambda: mirror.is_complete and mirror.get(BUNDLE, digest), what=f"the executor knows {digest}")


async def test_without_anything_published_a_job_has_no_bundle(centres: Centres, edge: Any) -> None:
    """Pinned or not, and at once: the worker's own folder is used."""
    for version in (None, "c0ffee"):
        centre = centres()
        with dag_run(1) as dag:
            pin(dag, version)
            assert await bundle_of(edge, centre.dispatch(dag)["t0"]) is None


async def test_each_run_gets_its_version_and_a_cleared_one_the_old_again(
    centres: Centres, edge: Any, publish: Published
) -> None:
    await publish.version(OLD, "c0ffee", requirements={"default": "plant.txt", "*": "all.txt"})
    await publish.version(NEW, current=True, requirements={"*": "all.txt"})
    centre = centres()
    with dag_run(1) as dag:
        for version, expected in (
            (None, BundleRef(name=BUNDLE, digest=NEW, requirements="all.txt")),
            ("c0ffee", BundleRef(name=BUNDLE, digest=OLD, requirements="plant.txt")),
            (NEW, BundleRef(name=BUNDLE, digest=NEW, requirements="all.txt")),
            (OLD, BundleRef(name=BUNDLE, digest=OLD, requirements="plant.txt")),
        ):
            pin(dag, version)
            job = centre.dispatch(dag)["t0"]
            assert await bundle_of(edge, job) == expected
            again(dag)
            await edge.start(job)
            await edge.do(job, GiveUp("cleared", datetime.now(UTC)))
            centre.compare()


async def test_a_version_that_is_published_a_little_later_is_waited_for(
    centres: Centres, edge: Any, publish: Published
) -> None:
    """A keeper learns of a new version when the scheduler does."""
    await publish.version(OLD, "c0ffee", current=True)
    centre = centres()
    await knows(centre, OLD)
    with dag_run(1) as dag:
        pin(dag, "beef")
        job = centre.dispatch(dag)["t0"]
        publisher = centre.executor._background.publisher
        await eventually(lambda: job in publisher and len(publisher.versions) == 1, what="the job waits")
        centre.compare()
        assert await edge.record(job) is None
        await publish.version(NEW, "beef")
        assert await bundle_of(edge, job) == BundleRef(name=BUNDLE, digest=NEW)
        assert len(publisher.versions) == 0


async def test_a_version_that_is_never_published_fails_the_task_with_the_reason(
    centres: Centres, edge: Any, publish: Published, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, so that an alert can fire."""
    await publish.version(OLD, "c0ffee", current=True)
    centre = centres()
    await knows(centre, OLD)
    counted_before = failures()
    with dag_run(1) as dag:
        pin(dag, "beef")
        job = centre.dispatch(dag)["t0"]
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "failed", "the task fails")
        assert await edge.record(job) is None
        assert not centre.executor._background.publisher
        said = f"version 'beef' of bundle {BUNDLE!r} is not published"
        assert any(said in text for text in (*caplog.messages, *events_of(dag)))
    assert failures() == counted_before + 1


def failures() -> float:
    """Tasks that this process has failed because the version of their bundle was not published."""
    labels = {"team": "", "step": "bundle"}
    return process_metrics().registry.get_sample_value("edge_executor_put_aside_total", labels) or 0.0


def events_of(dag: Any) -> list[str]:
    """What Airflow's own log of events says about the DAG's tasks."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return [row or "" for row in session.scalars(select(Log.extra).where(Log.dag_id == dag.dag_id))]


async def test_a_bundle_that_is_unpublished_is_taken_from_the_workers_folder_again(
    centres: Centres, edge: Any, publish: Published
) -> None:
    """Except for runs whose version is still published."""
    await publish.version(OLD, "c0ffee", current=True)
    centre = centres()
    await knows(centre, OLD)
    await publish.unpublish()
    await eventually(lambda: centre.executor._background._bundles.current(BUNDLE) is None, what="it is known")
    for version, expected in ((None, None), ("beef", None), ("c0ffee", BundleRef(name=BUNDLE, digest=OLD))):
        with dag_run(1) as dag:
            pin(dag, version)
            assert await bundle_of(edge, centre.dispatch(dag)["t0"]) == expected


async def test_a_task_marked_while_its_job_waits_leaves_nothing(
    centres: Centres, edge: Any, publish: Published
) -> None:
    await publish.version(OLD, current=True)
    centre = centres()
    await knows(centre, OLD)
    with dag_run(1) as dag:
        pin(dag, "beef")
        job = centre.dispatch(dag)["t0"]
        set_task(dag.dag_id, "t0", state="success")
        await centre.beats_until(lambda: not centre.executor.running, "the job is forgotten")
        assert await edge.record(job) is None
        assert task_rows(dag.dag_id)["t0"].state == "success"


async def test_a_job_that_waits_survives_its_scheduler(centres: Centres, edge: Any, publish: Published) -> None:
    """Airflow schedules it again, and the next executor chooses again; a known job keeps its version."""
    await publish.version(OLD, "c0ffee", current=True)
    first = centres()
    await knows(first, OLD)
    with dag_run(1) as waits, dag_run(1) as known:
        pin(waits, "beef")
        first.dispatch(waits)
        kept = first.dispatch(known)["t0"]
        assert (await bundle_of(edge, kept)).digest == OLD  # type: ignore[union-attr]  # None fails the test as well
        first.executor.terminate()
        first.scheduler.die()
        await publish.version(NEW, "beef", current=True)
        second = centres()
        assert second.scheduler.adopt() == 1
        again(waits)
        assert await bundle_of(edge, second.dispatch(waits)["t0"]) == BundleRef(name=BUNDLE, digest=NEW)
        record = await edge.record(kept)
        await edge.drop_message(record)
        await eventually(lambda: second.executor._background.dispatches.get(kept).is_waiting, what="it is seen")
        second.compare()
        assert (await bundle_of(edge, kept)).digest == OLD  # type: ignore[union-attr]  # None fails the test as well


async def test_no_job_is_sent_before_the_published_versions_are_known(
    centres: Centres, edge: Any, publish: Published
) -> None:
    """Without the bucket, as before 'streams apply', jobs wait; afterwards they get their version."""
    config = (await edge.broker.api(f"STREAM.INFO.{kv_stream(BUNDLES_BUCKET)}"))["config"]
    await edge.broker.api(f"STREAM.DELETE.{kv_stream(BUNDLES_BUCKET)}")
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        publisher = centre.executor._background.publisher
        await eventually(lambda: job in publisher.versions, what="the job waits")
        publisher.versions.check()
        assert await edge.record(job) is None
        await edge.broker.api(f"STREAM.CREATE.{kv_stream(BUNDLES_BUCKET)}", config)
        assert await bundle_of(edge, job) is None
