"""The log reader in front of the store that Airflow would have without it."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_bridge.logs.delegate import airflows_own_store
from edge_bridge.logs.found import LogsUnavailable
from edge_bridge.logs.remote_log import EdgeRemoteLogIO
from edge_bridge.logs.store import LogKey, StoredLogs
from edge_bridge.logs.text import Chunk

TI = SimpleNamespace(
    id="01a2020b-14ca-71cd-90f9-af9c47c5bfbd",
    task_instance_id="01a2020b-14ca-71cd-90f9-af9c47c5bfbd",
    try_number=1,
    state="success",
    executor=None,
    external_executor_id="01a2020b-14ca-71cd-90f9-af9c47c5bfbe",
    triggerer_job=None,
    hostname="plant-4-x7k2p1.plant-4",
    queue="press",
)


class EdgeLogs(StoredLogs):
    """Logs of the edge without a NATS."""

    def __init__(self, answer: list[Chunk] | LogsUnavailable | None) -> None:
        super().__init__(lambda: pytest.fail("not to be asked"))
        self._answer = answer
        self.asked: list[LogKey] = []

    def open(self, key: LogKey) -> Iterator[Chunk] | None:
        self.asked.append(key)
        if isinstance(self._answer, LogsUnavailable):
            raise self._answer
        return None if self._answer is None else iter(self._answer)


class OldStore:
    """A store with the older of Airflow's two interfaces."""

    processors = ("p",)

    def __init__(self) -> None:
        self.uploaded: list[str] = []

    def upload(self, path: os.PathLike[str] | str, ti: object = None) -> None:
        self.uploaded.append(str(path))

    def read(self, relative_path: str, ti: object) -> tuple[list[str], list[str] | None]:
        return [f"from {relative_path}"], ["one\ntwo\n"]


class BrokenStore:
    """A store that fails."""

    def stream(self, _path: str, _ti: Any) -> Any:
        raise OSError("bucket https://user:password@host is away")


def make(answer: list[Chunk] | LogsUnavailable | None, store: Any = None) -> tuple[EdgeRemoteLogIO, EdgeLogs]:
    logs = EdgeLogs(answer)
    return EdgeRemoteLogIO(lambda: store, logs), logs


def ti(**changes: Any) -> Any:
    return SimpleNamespace(**{**vars(TI), **changes})


@pytest.fixture(autouse=True)
def executors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default executor is another one, `edge` is ours."""
    monkeypatch.setattr("edge_bridge.logs.owner.executor_is_ours", lambda name: name == "edge")


def read(io: EdgeRemoteLogIO, task: Any) -> tuple[list[str], list[list[str]]]:
    messages, streams = io.stream("a/b.log", task)
    return messages, [list(stream) for stream in streams]


def test_what_is_not_ours_comes_from_the_other_store() -> None:
    io, logs = make(None, OldStore())
    assert read(io, ti(external_executor_id=None)) == (["from a/b.log"], [["one", "two"]])
    assert read(io, ti(executor="other")) == (["from a/b.log"], [["one", "two"]])
    assert logs.asked == []
    assert io.read("a/b.log", ti(executor="other")) == (["from a/b.log"], ["one\ntwo"])
    assert io.processors == ("p",)


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({}, "Edge Relay: worker plant-4-x7k2p1, site plant-4, queue 'press' (stream EDGE_LOGS)"),
        ({"hostname": "press-4"}, "Edge Relay: worker press-4, queue 'press' (stream EDGE_LOGS)"),
        ({"hostname": ""}, "Edge Relay: queue 'press' (stream EDGE_LOGS)"),
    ],
    ids=["a worker of today", "a worker of an older version", "no worker yet"],
)
def test_the_head_of_a_log_names_worker_site_and_queue(changes: dict[str, str], head: str) -> None:
    io, _ = make([Chunk("j", 0, b"edge\n")], OldStore())
    assert read(io, ti(**changes))[0] == [head]


def test_a_log_of_the_edge_is_enough_unless_a_trigger_may_have_logged_too() -> None:
    io, _ = make([Chunk("j", 0, b"edge\n")], OldStore())
    assert read(io, ti())[1] == [["edge"]]
    assert read(io, ti(state="deferred"))[1] == [["edge"], ["one", "two"]]


def test_a_finished_try_shows_what_its_triggers_logged_in_the_centre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an unfinished one Airflow itself reads local files."""
    folder = tmp_path / "logs"
    (folder / "a").mkdir(parents=True)
    for name in ("b.log.trigger.1.log", "b.log.trigger.2.log", "b.log", "bb.log.trigger.1.log"):
        (folder / "a" / name).write_bytes(f"from {name} \udcff\n".encode(errors="surrogateescape"))
    (tmp_path / "secret").write_text("outside\n")
    (folder / "a" / "b.log.trigger.3.log").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(folder))
    io, _ = make([Chunk("j", 0, b"edge\n")])
    messages, streams = read(io, ti())
    assert streams == [["edge"], ["from b.log.trigger.1.log \ufffd"], ["from b.log.trigger.2.log \ufffd"]]
    assert str(folder / "a" / "b.log.trigger.1.log") in messages
    assert read(io, ti(state="up_for_retry"))[1] == [["edge"]]


def test_without_any_other_store_airflow_continues_by_itself() -> None:
    io, _ = make(None)
    assert read(io, ti(external_executor_id=None)) == ([], [])
    assert io.read("a/b.log", ti()) == ([], None)
    assert io.processors == ()


def test_uploads_go_to_the_other_store_or_nowhere(tmp_path: Path) -> None:
    """Without one, a finished local task's file stays what it is: the log that is shown."""
    file = tmp_path / "b.log"
    file.write_text("local")
    store = OldStore()
    make(None, store)[0].upload(str(file), ti())
    make(None)[0].upload(str(file), ti())
    assert store.uploaded == [str(file)]
    assert file.read_text() == "local"


def test_a_failing_store_costs_a_line_and_never_the_page() -> None:
    io, _ = make([Chunk("j", 0, b"edge\n")], BrokenStore())
    messages, streams = read(io, ti(state="deferred"))
    assert streams == [["edge"]]
    assert any("OSError" in message for message in messages)
    assert not any("password" in message for message in messages)


def test_nats_away_is_told_where_the_log_would_be() -> None:
    io, _ = make(LogsUnavailable("NATS is away"))
    assert read(io, ti(executor="edge")) == (["Edge Relay: NATS is away"], [["Edge Relay: NATS is away"]])
    assert read(io, ti(executor="edge", state="running")) == (["Edge Relay: NATS is away"], [])


def test_airflows_own_store_is_found_behind_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.config_templates import airflow_local_settings

    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS", "edge_bridge.log_config.LOGGING_CONFIG")
    assert airflows_own_store() is None
    store = OldStore()
    monkeypatch.setattr(airflow_local_settings, "REMOTE_TASK_LOG", store)
    assert airflows_own_store() is store


def test_airflow_takes_our_reader_in_every_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core and the Task SDK each resolve it by themselves; neither connects to anything."""
    from airflow import logging_config
    from airflow.sdk import log as sdk_log

    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS", "edge_bridge.log_config.LOGGING_CONFIG")
    for module in (logging_config, sdk_log):
        active = module._ActiveLoggingConfig
        for name in ("logging_config_loaded", "remote_task_log", "default_remote_conn_id"):
            monkeypatch.setattr(active, name, getattr(active, name))
        module._load_logging_config()
        assert isinstance(active.remote_task_log, EdgeRemoteLogIO)
