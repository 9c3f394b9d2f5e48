"""A real Airflow: its database shared with the test process, its api-server a process of its own."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.airflow.airflow_home import create_tables
from support.nats.server import free_port

JWT_SECRET = "a-jwt-secret-of-the-tests-" + "x" * 64
DAG_ID = "d"
RUN_ID = "r1"
START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class RealAirflow:
    """A running Airflow.

    Attributes:
        url: Of its api-server, without a trailing slash.
        home: `AIRFLOW_HOME`, also of the test process.
        server: Its api-server, which a test may kill and start again.
    """

    url: str
    home: Path
    server: "ApiServer"

    @property
    def execution_url(self) -> str:
        """Of the Execution API."""
        return f"{self.url}/execution/"


class ApiServer:
    """The process of an api-server. Its methods block.

    Args:
        port: On 127.0.0.1; the same at each start.
        log: Where its output goes.
        env: Its environment; None for that of this process.
        python: The interpreter that has Airflow.
        start_s: How long its start may take.
    """

    def __init__(
        self,
        port: int,
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        start_s: float = START_TIMEOUT_S,
    ) -> None:
        self._port, self._log, self._env, self._python, self._start_s = port, log, env, python, start_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._python, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "1"], stdout=log, stderr=log, start_new_session=True, env=self._env
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def start_if_stopped(self) -> None:
        """Start it, unless it runs."""
        if self._process is None:
            self.start()

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, as an operator stops it.

        Raises:
            subprocess.TimeoutExpired: It has not ended.
        """
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout_s)
        self._process = None

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + self._start_s
        while time.monotonic() < deadline:
            assert process.poll() is None, self._log.read_text(errors="replace")[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/execution/health", timeout=10):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("the api-server was not ready in time:\n" + self._log.read_text(errors="replace")[-3000:])


@contextmanager
def running_airflow(extra_env: Mapping[str, str], *, database: str | None = None) -> Iterator[RealAirflow]:
    """Migrate the test process's Airflow database, start an api-server on it, stop it at the end.

    The settings that both need are set in this process's environment for as long.

    Args:
        extra_env: Further settings.
        database: URL of another database than SQLite in `AIRFLOW_HOME`. This process uses it as long.
    """
    home = Path(os.environ["AIRFLOW_HOME"])
    port = free_port()
    settings = {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
        "AIRFLOW__API__SECRET_KEY": "a-session-secret-of-the-tests",
        **extra_env,
    }
    if database is not None:
        settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        if database is not None:
            _use_configured_database()
        create_tables()
        say_migrated()
        _insert_dag()
        server = ApiServer(port, home / f"api-server-{port}.log")
        server.start()
        try:
            yield RealAirflow(f"http://127.0.0.1:{port}", home, server)
        finally:
            # An orderly stop is slow, and no state needs saving.
            server.kill()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if database is not None:
            _use_configured_database()


@contextmanager
def using_database(url: str) -> Iterator[None]:
    """This process uses another database than SQLite in `AIRFLOW_HOME` while inside."""
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    before = os.environ.get(name)
    os.environ[name] = url
    _use_configured_database()
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.__setitem__(name, before)
        _use_configured_database()


def _use_configured_database() -> None:
    from airflow import settings

    # Airflow's functions have no annotations.
    untyped: Any = settings
    untyped.configure_vars()
    untyped.reconfigure_orm()


def add_task(state: str = "queued", **values: Any) -> "TaskIds":
    """A task instance, queued to its own dispatch unless the values differ."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    ids = TaskIds(ti_id=str(uuid.uuid4()), job=str(uuid.uuid4()), task_id=f"t-{uuid.uuid4().hex[:8]}")
    row = {
        "id": uuid.UUID(ids.ti_id),
        "dag_id": DAG_ID,
        "run_id": RUN_ID,
        "task_id": ids.task_id,
        "map_index": -1,
        "state": state,
        "try_number": 1,
        "max_tries": 2,
        "pool": "default_pool",
        "pool_slots": 1,
        "queue": "edge",
        "priority_weight": 1,
        "external_executor_id": ids.job,
        "start_date": datetime.now(UTC),
        "executor_config": {},
        **values,
    }
    with create_session(scoped=False) as session:
        session.execute(insert(TaskInstance).values(**row))
    return replace(ids, task_id=str(row["task_id"]))


def change_task(ti_id: str, **values: Any) -> None:
    """What a user or the scheduler does to a task instance."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        session.execute(update(TaskInstance).where(TaskInstance.id == uuid.UUID(ti_id)).values(**values))


def read_task(ti_id: str) -> dict[str, Any] | None:
    """The row of a task instance."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        table = TaskInstance.__table__
        row = session.execute(select(table).where(table.c.id == uuid.UUID(ti_id))).mappings().one_or_none()
        return None if row is None else dict(row)


@dataclass(frozen=True, slots=True)
class TaskIds:
    """Names of a task instance that `add_task` made."""

    ti_id: str
    job: str
    task_id: str


def _insert_dag() -> None:
    from airflow.models import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    limits = {"max_active_tasks": 16, "max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False}
    now = datetime.now(UTC)
    with create_session(scoped=False) as session:
        session.execute(insert(DagBundleModel).values(name="tests"))
        session.execute(insert(DagModel).values(dag_id=DAG_ID, bundle_name="tests", is_stale=False, **limits))
    add_run(RUN_ID, logical_date=now, start_date=now)


def add_run(run_id: str, **values: Any) -> None:
    """A run of the same DAG."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    row = {"dag_id": DAG_ID, "run_id": run_id, "run_type": "manual", "state": "running"}
    with create_session(scoped=False) as session:
        session.execute(insert(DagRun).values(**row, run_after=datetime.now(UTC), **values))


def say_migrated() -> None:
    """The api-server starts only on a database that names its version."""
    from airflow.utils.db import _get_alembic_config
    from alembic import command

    # Airflow's function has no annotations.
    config: Callable[[], Any] = _get_alembic_config
    command.stamp(config(), "head")


def delete_task(ti_id: str) -> None:
    """What becomes of a row when a task instance is cleared: it goes, and another one has a new id."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session(scoped=False) as session:
        session.execute(delete(TaskInstance).where(TaskInstance.id == uuid.UUID(ti_id)))


def retry_task(ids: TaskIds) -> str:
    """What Airflow does when a try fails and another follows: the old row goes to the history; gives the new id."""
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    row = read_task(ids.ti_id)
    assert row is not None
    columns = set(TaskInstanceHistory.__table__.columns.keys())
    old = {name: value for name, value in row.items() if name in columns}
    new_id = str(uuid.uuid4())
    with create_session(scoped=False) as session:
        session.execute(
            insert(TaskInstanceHistory.__table__).values(
                **{**old, "task_instance_id": uuid.UUID(ids.ti_id), "state": "failed", "span_status": "not_started"}
            )
        )
    change_task(ids.ti_id, id=uuid.UUID(new_id), state="up_for_retry")
    return new_id
