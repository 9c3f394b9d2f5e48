"""The bundle class as Airflow's processes use it, with a real NATS."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_bridge.bundles import published_bundle
from edge_bridge.bundles.fetching import VersionMissing
from edge_bridge.bundles.published_bundle import PublishedBundle, PublishFailed
from edge_bridge.settings import SettingsError
from edge_broker.bundles.published import PublishedBundles, Snapshot
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, kv_stream
from support.bundles.airflow_bundles import Nats, entry
from support.nats.server import free_port

pytestmark = pytest.mark.usefixtures("configured")


def bundle(name: str = "dags", version: str | None = None) -> PublishedBundle:
    """As Airflow makes it in each process."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    manager: Any = DagBundlesManager  # it has no annotations in Airflow
    made = manager().get_bundle(name, version)
    assert isinstance(made, PublishedBundle)
    return made


def refreshed(name: str = "dags") -> PublishedBundle:
    """As the dag-processor uses it first."""
    made = bundle(name)
    made.initialize()
    made.refresh()
    return made


def configure(monkeypatch: pytest.MonkeyPatch, *bundles: dict[str, Any]) -> None:
    """Replace the configured bundles."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))


def version_of(made: PublishedBundle) -> str:
    """What Airflow stores."""
    version = made.get_current_version()
    assert isinstance(version.version, str)
    return version.version


def entries(nats: Nats) -> Snapshot:
    """What is published."""
    return nats.ask(lambda broker: PublishedBundles(broker).snapshot())


async def _stored(broker: Broker) -> int:
    return (await stream_info(broker, BUNDLES))["state"]["last_seq"]


def test_a_plain_folder_is_published_and_has_versions(nats: Nats, bundle_folder: Path) -> None:
    made = bundle()
    assert made.supports_versioning
    made.initialize()
    assert (made.is_initialized, made.get_current_version(), made.path) == (True, None, bundle_folder)
    made.refresh()
    first = version_of(made)
    assert [(one.name, one.digest) for one in entries(nats).current] == [("dags", first)]
    assert made.path != bundle_folder
    assert (made.path / "helper.py").read_text() == "ANSWER = 1\n"

    (bundle_folder / "helper.py").write_text("ANSWER = 2\n")
    # Between two refreshes nothing is parsed that is not published.
    assert (made.path / "helper.py").read_text() == "ANSWER = 1\n"
    path = made.path
    made.refresh()
    second = version_of(made)
    assert second != first
    assert made.path == path
    assert (made.path / "helper.py").read_text() == "ANSWER = 2\n"
    assert {one.digest for one in entries(nats).versions} == {first, second}
    assert [one.digest for one in entries(nats).current] == [second]

    # A run keeps its version, in whatever process it is needed.
    for version, answer in ((first, "1"), (second, "2")):
        pinned = bundle(version=version)
        pinned.initialize()
        assert version_of(pinned) == version
        assert (pinned.path / "helper.py").read_text() == f"ANSWER = {answer}\n"
        pinned.refresh()
    assert [one.digest for one in entries(nats).current] == [second]


def test_an_unchanged_folder_publishes_nothing(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at a refresh, and not by a dag-processor that was started again."""
    made = refreshed()
    before = nats.ask(_stored), entries(nats)
    with monkeypatch.context() as patch:
        patch.setattr(published_bundle, "with_broker", lambda *_: pytest.fail("NATS was asked"))
        made.refresh()
    monkeypatch.setattr(published_bundle, "CHECK_S", 0.0)
    made.refresh()
    assert version_of(refreshed()) == version_of(made)
    assert (nats.ask(_stored), entries(nats)) == before


def test_what_nats_has_lost_is_published_again(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    made = refreshed()
    nats.ask(lambda broker: broker.api(f"STREAM.PURGE.{BUNDLES}"))
    nats.ask(lambda broker: broker.api(f"STREAM.PURGE.{kv_stream(BUNDLES_BUCKET)}"))
    monkeypatch.setattr(published_bundle, "CHECK_S", 0.0)
    made.refresh()
    assert [one.digest for one in entries(nats).current] == [version_of(made)]
    assert len(nats.ask(lambda broker: BundleStore(broker).pieces())) == 2


def test_without_nats_the_last_version_stays(nats: Nats, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a restart of the dag-processor."""
    made = refreshed()
    kept = version_of(made)
    (bundle_folder / "helper.py").write_text("ANSWER = 2\n")
    monkeypatch.setattr("edge_bridge.bundles.connection.CONNECT_S", 0.3)
    counted: list[tuple[str, object]] = []
    monkeypatch.setattr(
        "airflow.observability.stats.Stats.incr", staticmethod(lambda name, tags: counted.append((name, tags)))
    )
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", f"nats://127.0.0.1:{free_port()}")
        for one in (made, bundle()):
            with capture_logs() as logs:
                one.initialize()
                one.refresh()
            [event] = [log for log in logs if log["event"] == "bundle_not_published"]
            assert (event["log_level"], event["kept"]) == ("error", kept)
            assert "no connection to NATS" in event["error"]
            assert counted.pop() == ("edge_relay.bundle_not_published", {"bundle_name": one.name})
            assert version_of(one) == kept
            assert (one.path / "helper.py").read_text() == "ANSWER = 1\n"
    made.refresh()
    assert version_of(made) != kept
    assert counted == []
    assert [one.digest for one in entries(nats).current] == [version_of(made)]


def test_without_any_earlier_version_the_failure_is_the_dag_processors(
    monkeypatch: pytest.MonkeyPatch, bundle_folder: Path
) -> None:
    """It logs it, and tries again within seconds. Nothing is parsed."""
    (bundle_folder / "out").symlink_to("/etc")
    made = bundle()
    made.initialize()
    with pytest.raises(
        PublishFailed, match=r"bundle 'dags' can't be published: out is a link that leads out .*edgeignore"
    ):
        made.refresh()
    (bundle_folder / "out").unlink()
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__PUBLISHER_PASSWORD")
    with pytest.raises(PublishFailed, match=r"set \[edge_relay\] publisher_password, or \[edge_relay\] secrets_dir"):
        made.refresh()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda folder: (folder / "bad").symlink_to("/etc/passwd"), "bad is a link that leads out of the bundle"),
        (lambda folder: (folder / "data.bin").write_bytes(b"x" * 3000), r"The largest are data\.bin \(3,000 bytes\)"),
        (lambda folder: [(folder / f"f{n}").touch() for n in range(20)], "max_files = 10"),
        (
            lambda folder: (folder / "requirements.txt").unlink(),
            "requirements names 'requirements.txt' for queue 'gpu'",
        ),
    ],
)
def test_a_folder_that_cannot_be_published_keeps_the_last_version(
    nats: Nats, monkeypatch: pytest.MonkeyPatch, bundle_folder: Path, spoil: Any, text: str
) -> None:
    (bundle_folder / "requirements.txt").write_text("")
    limited = entry("dags", bundle_folder, max_bytes=2000, max_files=10, requirements={"gpu": "requirements.txt"})
    configure(monkeypatch, limited)
    made = refreshed()
    kept = version_of(made)
    spoil(bundle_folder)
    with capture_logs() as logs:
        made.refresh()
    [event] = [log for log in logs if log["event"] == "bundle_not_published"]
    assert re.search(text, event["error"]), event
    assert version_of(made) == kept
    assert [one.digest for one in entries(nats).current] == [kept]


def test_requirements_and_any_name(nats: Nats, monkeypatch: pytest.MonkeyPatch, bundle_folder: Path) -> None:
    (bundle_folder / "all.txt").touch()
    names = ["a b", "dags.v2", "größe ☃", "x" * 150]
    configure(monkeypatch, *(entry(name, bundle_folder, requirements="all.txt") for name in names))
    digests = {name: version_of(refreshed(name)) for name in names}
    assert len(set(digests.values())) == 1
    assert {one.name: one.requirements_for("q") for one in entries(nats).versions} == dict.fromkeys(names, "all.txt")
    for name in names:
        pinned = bundle(name, digests[name])
        pinned.initialize()
        assert (pinned.path / "helper.py").is_file()


def test_a_version_of_the_inner_bundle_leads_to_the_digest(
    nats: Nats, monkeypatch: pytest.MonkeyPatch, bundle_folder: Path, tmp_path: Path
) -> None:
    """A run from before the bundle was published names a commit."""
    for version in ("0ld", "c0ffee"):
        shutil.copytree(bundle_folder, tmp_path / "git" / version)
        (tmp_path / "git" / version / "VERSION").write_text(version)
    git = entry("dags", bundle_folder)
    git["kwargs"]["inner"] = {
        "classpath": "support.bundles.versioned_bundle.FolderOfVersions",
        "kwargs": {"root": str(tmp_path / "git")},
    }
    configure(monkeypatch, git)
    digest = version_of(refreshed())
    assert [(one.version, one.digest) for one in entries(nats).known] == [("c0ffee", digest)]
    pinned = bundle(version="c0ffee")
    pinned.initialize()
    assert (pinned.path / "VERSION").read_text() == "c0ffee"
    assert pinned.path.name == digest
    # A commit that was never published is the inner bundle's matter.
    older = bundle(version="0ld")
    older.initialize()
    assert older.path == tmp_path / "git" / "0ld"
    with pytest.raises(RuntimeError, match="has no commit gone"):
        bundle(version="gone").initialize()


def test_a_version_that_is_gone_is_named(nats: Nats) -> None:
    made = refreshed()
    digest = version_of(made)

    async def remove(broker: Broker) -> None:
        await BundleStore(broker).remove_piece((await BundleStore(broker).pieces())[0])

    nats.ask(remove)
    for version, text in (
        (digest, "piece .* is missing"),
        ("0" * 64, "is not published"),
        ("main", "is not published"),
    ):
        with pytest.raises(VersionMissing, match=text):
            bundle(version=version).initialize()
    assert not [path for path in made.versions_dir.iterdir() if not path.name.startswith(".")]
    assert list(made.versions_dir.iterdir()) == []


def test_a_task_needs_the_readers_password_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And nothing at all for a version that is there."""
    digest = version_of(refreshed())
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__PUBLISHER_PASSWORD")
    bundle(version=digest).initialize()
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__READER_PASSWORD")
    bundle(version=digest).initialize()
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "empty"))
    with pytest.raises(SettingsError, match="publisher_password"):
        bundle(version=digest).initialize()


def test_processes_that_need_a_version_at_once_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = version_of(refreshed())
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "other"))
    code = (
        "from airflow.dag_processing.bundles.manager import DagBundlesManager\n"
        f"made = DagBundlesManager().get_bundle('dags', {digest!r})\n"
        "made.initialize()\n"
        "print((made.path / 'helper.py').read_text())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.splitlines()[-2:]) == (0, ["ANSWER = 1", ""])
    assert [path.name for path in (tmp_path / "other" / "dags" / "versions").iterdir()] == [digest]


def test_a_constructor_does_no_work(monkeypatch: pytest.MonkeyPatch, bundle_folder: Path) -> None:
    """Every process that reads the configuration makes all bundles."""
    broken = entry("dags", bundle_folder)
    broken["kwargs"]["inner"] = {"classpath": "no.such.Bundle"}
    configure(monkeypatch, broken)
    made = bundle()
    with pytest.raises(SettingsError, match="bundle 'dags': inner must have a classpath, and kwargs"):
        made.initialize()


@pytest.mark.parametrize(
    ("own", "inner", "shown"),
    [
        (None, None, None),
        (None, "https://git.example/dags", "https://git.example/dags"),
        (None, "https://git.example/tree/{version}", None),
        ("https://code.example/{version}", "https://git.example/dags", "https://code.example/{version}"),
    ],
)
def test_the_link_to_the_code(
    monkeypatch: pytest.MonkeyPatch, bundle_folder: Path, own: str | None, inner: str | None, shown: str | None
) -> None:
    """A digest is no version of the inner bundle's repository."""
    made = entry("dags", bundle_folder, view_url_template=own)
    made["kwargs"]["inner"]["kwargs"]["view_url_template"] = inner
    configure(monkeypatch, made)
    assert bundle().view_url_template() == shown
