"""Peers of a later version send and store more fields, and values that this version's enums lack.

Each program reads what it can: a newer peer silences no worker, hides no job of another worker, and ends no loop.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from compat.record import RECORDED, VERSION
from compat.test_recorded import objects
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.reports import Reports
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_relay.stores import worker_store
from edge_schemas.life.events import Start
from edge_schemas.life.model import JobState, Verdict, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import AuxiliaryKind
from edge_schemas.wire.offline import OnSilence
from edge_schemas.wire.routes import PROBLEM_TYPE, REQUEST_ID_HEADER
from edge_schemas.wire.worker_report import JobPhase, ProxyKind
from edge_worker.relay.call_result import Refused, Reply, check_reply
from edge_worker.relay.poll_answer import read_answer
from support.relay.jobs import make_job

ENUM_VALUES = frozenset(
    str(value) for kind in (JobPhase, ProxyKind, OnSilence, JobState, Verdict, AuxiliaryKind) for value in kind
)
LATER = "a-value-of-a-later-version"


def recorded(name: str) -> Any:
    """A document as this version writes it."""
    return json.loads((RECORDED / VERSION / f"{name}.json").read_text())


def with_more_fields(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with a further field in each of its objects, one at a time."""
    for path in objects(document):
        newer = deepcopy(document)
        part_at(newer, path)["a_field_of_a_later_version"] = {"with": ["content"]}
        yield f"field in {'.'.join(map(str, path)) or 'itself'}", newer


def with_later_values(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with a value that this version does not know in place of each value of an enum."""
    for path in objects(document):
        for key, value in part_at(document, path).items():
            if isinstance(value, str) and value in ENUM_VALUES:
                newer = deepcopy(document)
                part_at(newer, path)[key] = LATER
                yield f"value of {'.'.join(map(str, (*path, key)))}", newer


def part_at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def newer(*names: str, of: Callable[[Any], Iterator[tuple[str, Any]]] | None = None) -> list[Any]:
    """The cases of a parametrized test."""
    changes = (with_more_fields, with_later_values) if of is None else (of,)
    found = [
        pytest.param(document, id=f"{name}: {what}")
        for name in names
        for change in changes
        for what, document in change(recorded(name))
    ]
    assert found, "a change of nothing tests nothing"
    return found


RECORDS = sorted(file.stem for file in (RECORDED / VERSION).glob("job-record.*.json"))


class Keeper:
    """The view of a keeper that listens already."""

    def __init__(self) -> None:
        broker: Any = SimpleNamespace(connected=True, on_connection=lambda _: None)
        self.now = 1000.0
        mover = RecordMover(RecordStore(broker))
        self.view = ClusterView(broker, mover, KeeperMetrics().put_aside, clock=lambda: self.now)
        self.view._watched_records.complete.set()
        self.view._watched_workers.complete.set()


@pytest.mark.parametrize("document", newer("worker-entry"))
def test_the_keeper_counts_the_poll_as_contact(document: Any) -> None:
    keeper, worker, now = Keeper(), document["worker"], datetime.now(UTC)
    held = [
        transition(new_record(make_job().model_copy(update={"id": report["id"]})), Start(worker, 1, now))
        for report in document["jobs"]
    ]
    assert len(held) > 1
    for record in held:
        keeper.view._update_record(record.id, record.model_dump_json().encode())
    keeper.now += 5
    keeper.view._contact.record_sign(keeper.now)
    assert [keeper.view.silent_for(record) for record in held] == [5] * len(held)
    keeper.view._update_worker(worker, json.dumps(document).encode())
    assert [keeper.view.silent_for(record) for record in held] == [0] * len(held)


@pytest.mark.parametrize("document", newer("worker-entry", of=with_more_fields))
def test_the_relay_reads_an_entry_with_more_fields(document: Any) -> None:
    assert worker_store._parse(json.dumps(document).encode()) == worker_store._parse(
        json.dumps(recorded("worker-entry")).encode()
    )


@pytest.mark.parametrize("document", newer("worker-entry", of=with_later_values))
def test_the_relay_replaces_an_entry_that_it_can_not_read(document: Any) -> None:
    """It counts as none, so that the worker's next poll is stored."""
    assert worker_store._parse(json.dumps(document).encode()) is None


@pytest.mark.parametrize("document", newer(*RECORDS))
def test_a_record_of_a_later_version_hides_no_other_one(document: Any) -> None:
    """Neither from the executor nor from the keeper; a job that they can't read waits for a program that can."""
    keeper, dispatches = Keeper(), DispatchTable()
    good = transition(new_record(make_job()), Start("w", 1, datetime.now(UTC)))
    for job in (document["id"], good.id):
        dispatches.add([Entry(job, job, dispatch=job)])
    reports = Reports(dispatches, lambda _: None, lambda _: None, ExecutorMetrics().of(None))
    for job, value in ((document["id"], json.dumps(document)), (good.id, good.model_dump_json())):
        reports.on_record(job, value.encode())
        keeper.view._update_record(job, value.encode())
    seen = dispatches.get(good.id)
    assert seen is not None
    assert seen.state is JobState.RUNNING
    assert good.id in {record.id for record in keeper.view.unfinished()}


@pytest.mark.parametrize("document", newer("poll-answer"))
def test_the_worker_reads_the_other_parts_of_an_answer(document: Any) -> None:
    """A grant that it can't read is returned to the relay by its receipt."""
    other = deepcopy(recorded("poll-answer")["grants"][0])
    other["job"]["id"] = "019b7c5e-0000-4000-8000-00000000000f"
    document["grants"].append(other)
    read = read_answer(Reply(200, {}, json.dumps(document).encode()))
    assert {grant.job.id for grant in read.answer.grants} | {grant.job for grant in read.unreadable} == {
        grant["job"]["id"] for grant in document["grants"]
    }
    assert other["job"]["id"] in {grant.job.id for grant in read.answer.grants}
    assert [directive.job for directive in read.answer.stop] == [one["job"] for one in document["stop"]]
    assert read.answer.settings is not None


@pytest.mark.parametrize("code", ["a_code_of_a_later_version", *(code.value for code in ErrorCode)])
def test_the_worker_reads_a_refusal_with_any_code(code: str) -> None:
    problem = {**recorded("problem"), "code": code, "a_field_of_a_later_version": 1}
    headers = {"Content-Type": PROBLEM_TYPE, REQUEST_ID_HEADER: "request-0001"}
    with pytest.raises(Refused) as refused:
        check_reply(Reply(409, headers, json.dumps(problem).encode()), "request-0001")
    assert refused.value.code == code
