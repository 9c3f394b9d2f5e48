"""A real dag-processor with a published bundle: what it parses is published, and each run keeps its version."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_broker.bundles.published import PublishedBundles
from support.bundles.airflow_bundles import Nats, entry, settings_for
from support.nats.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MAIN = """
from support.airflow.airflow_home import create_tables
from support.airflow.real_airflow import say_migrated
create_tables()
say_migrated()
from airflow.__main__ import main
main()
"""
TRIGGER = """
from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType
trigger_dag("published", triggered_by=DagRunTriggeredByType.TEST, run_id={run_id!r})
"""


@dataclass
class Processor:
    """The dag-processor, with a database of its own.

    Attributes:
        env: Its environment.
        home: Its `AIRFLOW_HOME`.
    """

    env: dict[str, str]
    home: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and do not wait."""
        command = [sys.executable, "-c", MAIN, "dag-processor"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def stop(self) -> None:
        """As an operator stops it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    @property
    def log(self) -> Path:
        """Its output."""
        return self.home / "dag-processor.log"

    def ask(self, query: str) -> Any:
        """The first value of the first row."""
        try:
            with closing(sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=10)) as database:
                row = database.execute(query).fetchone()
        except sqlite3.OperationalError:
            return None  # there is no database yet
        return row and row[0]

    def wait(self, check: Callable[[], Any]) -> Any:
        """Until the check returns something."""
        deadline = time.monotonic() + 90
        while not (found := check()):
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-6000:]
            time.sleep(0.1)
        return found

    def dag(self) -> tuple[Any, Any]:
        """Description and version of the DAG, as the scheduler sees them."""
        ask = "SELECT description || '@' || coalesce(bundle_version, '') FROM dag WHERE dag_id = 'published'"
        return tuple((self.ask(ask) or "@").split("@"))

    def wait_for(self, description: str) -> str:
        """The version of the DAG once it has this description."""
        return str(self.wait(lambda: self.dag()[0] == description and self.dag()[1]))

    def trigger(self, run_id: str) -> str:
        """A run of the DAG; returns its version."""
        subprocess.run([sys.executable, "-c", TRIGGER.format(run_id=run_id)], env=self.env, check=True, timeout=90)
        return str(self.ask(f"SELECT bundle_version FROM dag_run WHERE run_id = '{run_id}'"))


@pytest.fixture
def processor(nats: Nats, tmp_path: Path, bundle_folder: Path) -> Iterator[Processor]:
    """A dag-processor that looks at the bundle every second."""
    settings = {
        **settings_for(nats.url, tmp_path, [entry("dags", bundle_folder)]),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    made = Processor({**os.environ, **settings}, tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_each_run_keeps_the_code_with_which_it_was_created(
    processor: Processor, nats: Nats, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = processor.wait_for("answer 1")
    assert processor.ask("SELECT version FROM dag_bundle WHERE name = 'dags'") == first
    assert processor.trigger("one") == first

    (bundle_folder / "helper.py").write_text("ANSWER = 2\n")
    second = processor.wait_for("answer 2")
    assert second != first
    assert processor.trigger("two") == second
    assert processor.ask("SELECT bundle_version FROM dag_run WHERE run_id = 'one'") == first
    assert _published(nats) == ({first, second}, [second])

    # A folder that can't be published: the DAGs stay as they are, and the log explains it.
    (bundle_folder / "helper.py").write_text("ANSWER = 3\n")
    (bundle_folder / "secrets").symlink_to("/etc")
    processor.wait(lambda: "bundle_not_published" in processor.log.read_text())
    assert "secrets is a link that leads out of the bundle" in processor.log.read_text()
    assert processor.dag() == ("answer 2", second)
    (bundle_folder / "secrets").unlink()
    third = processor.wait_for("answer 3")

    # NATS and source are gone, the dag-processor is started again: it parses what it has published.
    processor.stop()
    shutil.rmtree(bundle_folder)
    processor.log.unlink()
    processor.env["AIRFLOW__EDGE_RELAY__NATS_URLS"] = f"nats://127.0.0.1:{free_port()}"
    processor.start()
    processor.wait(lambda: "bundle_not_published" in processor.log.read_text())
    assert processor.dag() == ("answer 3", third)

    # A task that runs here, or a cleared one, gets the code of its run.
    for name, value in settings_for(nats.url, tmp_path / "elsewhere", [entry("dags", bundle_folder)]).items():
        monkeypatch.setenv(name, value)
    assert [_parsed(version) for version in (first, second, third)] == ["answer 1", "answer 2", "answer 3"]


def _parsed(version: str) -> str | None:
    """What a task of this version parses; in a process of its own, as Airflow does."""
    code = (
        "from airflow.dag_processing.bundles.manager import DagBundlesManager\n"
        "from airflow.dag_processing.dagbag import BundleDagBag\n"
        f"bundle = DagBundlesManager().get_bundle('dags', {version!r})\n"
        "bundle.initialize()\n"
        "bag = BundleDagBag(dag_folder=bundle.path / 'published_dag.py', bundle_path=bundle.path, bundle_name='dags')\n"
        "print(bag.dags['published'].description)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=90)
    return ran.stdout.splitlines()[-1]


def _published(nats: Nats) -> tuple[set[str], list[str]]:
    """All digests, and the current ones."""
    found = nats.ask(lambda broker: PublishedBundles(broker).snapshot())
    return {one.digest for one in found.versions}, [one.digest for one in found.current]
