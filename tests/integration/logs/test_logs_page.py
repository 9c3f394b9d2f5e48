"""Airflow's own log answer, from a real api-server: live, finished and older tries, and never a stall on port 8793."""

import json
import os
import signal
import socket
import time
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_bridge.logs.remote_log import NOTHING_STORED
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task, change_task, retry_task
from support.nats.sync_nats import RunningNats, Writer

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow
HOST = "127.0.0.77"
QUICK_S = 3.0
"""Airflow waits five seconds for a worker's log server."""


class LogPage:
    """Reads logs as Airflow's UI does."""

    def __init__(self, airflow: RealAirflow) -> None:
        self._url = airflow.url
        with urllib.request.urlopen(f"{airflow.url}/auth/token", timeout=10) as reply:
            self._token = json.load(reply)["access_token"]

    def read(self, task_id: str, try_number: int = 1, *, token: str | None = None) -> tuple[list[str], str | None]:
        """Lines, and the token with which the next request gets what is new."""
        url = f"{self._url}/api/v2/dags/{DAG_ID}/dagRuns/{RUN_ID}/taskInstances/{task_id}/logs/{try_number}"
        request = urllib.request.Request(url + (f"?token={token}" if token else ""))
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Accept", "application/json")
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = json.load(reply)
        self.took_s = time.monotonic() - began
        return [line["event"] for line in answer["content"]], answer.get("continuation_token")


@pytest.fixture
def page(airflow: RealAirflow) -> LogPage:
    return LogPage(airflow)


@pytest.fixture
def writer(nats_for_logs: RunningNats) -> Iterator[Writer]:
    with Writer(nats_for_logs.url) as found:
        yield found


@pytest.fixture
def worker_log_server() -> Iterator[socket.socket]:
    """What an edge machine is to the centre: connections to its port 8793 get nowhere."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 8793))
        listener.listen()
        listener.setblocking(False)
        yield listener


def was_asked(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def edge_task(state: str, **values: Any) -> TaskIds:
    return add_task(state, **{"executor": "edge", "hostname": HOST, **values})


def line(text: str) -> bytes:
    return json.dumps({"timestamp": datetime.now(UTC).isoformat(), "level": "info", "event": text}).encode() + b"\n"


def test_lines_appear_while_the_task_runs(page: LogPage, writer: Writer, worker_log_server: socket.socket) -> None:
    ids = edge_task("running")
    first = line("first")
    writer.append(ids.ti_id, 1, ids.job, 0, first + b'{"event": "half a l')
    events, token = page.read(ids.task_id)
    assert events[-1] == "first"
    assert f"Edge Relay: worker {HOST}, queue 'edge' (stream EDGE_LOGS)" in events
    writer.append(ids.ti_id, 1, ids.job, len(first) + 19, b'ine"}\n')
    events, token = page.read(ids.task_id, token=token)
    assert events == ["half a line"]
    assert token is not None
    writer.append(ids.ti_id, 1, ids.job, len(first) + 25, line("last"))
    change_task(ids.ti_id, state="success")
    assert page.read(ids.task_id, token=token)[0] == ["last"]
    assert [e for e in page.read(ids.task_id)[0] if e in {"first", "half a line", "last"}] == [
        "first",
        "half a line",
        "last",
    ]
    assert not was_asked(worker_log_server)


def test_a_failed_try_keeps_its_log_when_the_task_has_a_new_id(page: LogPage, writer: Writer) -> None:
    ids = edge_task("running")
    writer.append(ids.ti_id, 1, ids.job, 0, line("of the first try"))
    new_id = retry_task(ids)
    # Waiting for its retry: the new id still has the old try's number.
    assert "of the first try" in page.read(ids.task_id, 1)[0]
    job = str(uuid.uuid4())
    change_task(new_id, state="running", try_number=2, external_executor_id=job)
    writer.append(new_id, 2, job, 0, line("of the second try"))
    assert "of the first try" in page.read(ids.task_id, 1)[0]
    second = page.read(ids.task_id, 2)[0]
    assert "of the second try" in second
    assert "of the first try" not in second


@pytest.mark.parametrize("state", ["success", "failed", "up_for_retry", "deferred", "running"])
def test_no_page_waits_for_the_log_server_of_an_edge_machine(
    page: LogPage, worker_log_server: socket.socket, state: str
) -> None:
    ids = edge_task(state)
    events, _ = page.read(ids.task_id)
    assert page.took_s < QUICK_S
    assert not was_asked(worker_log_server)
    if state not in {"deferred", "running"}:
        assert events[-1] == NOTHING_STORED


def test_a_task_of_another_executor_is_left_to_airflow(
    page: LogPage, airflow: RealAirflow, worker_log_server: socket.socket
) -> None:
    """Its local file is shown; without one, Airflow asks the worker's log server as ever."""
    ids = add_task("success", external_executor_id=None, hostname=HOST)
    path = Path(f"dag_id={DAG_ID}/run_id={RUN_ID}/task_id={ids.task_id}/attempt=1.log")
    file = airflow.home / "logs" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(line("a local line"))
    assert page.read(ids.task_id)[0][-1] == "a local line"
    assert not was_asked(worker_log_server)
    file.unlink()
    page.read(ids.task_id)
    assert was_asked(worker_log_server)


def test_an_old_local_file_of_a_task_that_counts_as_ours_is_shown(page: LogPage, airflow: RealAirflow) -> None:
    ids = edge_task("success")
    file = airflow.home / f"logs/dag_id={DAG_ID}/run_id={RUN_ID}/task_id={ids.task_id}/attempt=1.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(line("from before"))
    assert page.read(ids.task_id)[0][-1] == "from before"


def test_with_nats_away_the_page_says_so_at_once(
    page: LogPage, nats_for_logs: RunningNats, worker_log_server: socket.socket
) -> None:
    ids = edge_task("success")
    page.read(ids.task_id)
    os.kill(nats_for_logs.pid, signal.SIGSTOP)
    try:
        events, _ = page.read(ids.task_id)
    finally:
        os.kill(nats_for_logs.pid, signal.SIGCONT)
    assert page.took_s < QUICK_S
    assert "NATS" in events[-1]
    assert not was_asked(worker_log_server)
