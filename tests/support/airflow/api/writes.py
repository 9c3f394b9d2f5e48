"""Every write of the Execution API that a job can make, each ready to be made.

For each write there is what may happen in Airflow between the write and its repeat: a person answers, a run begins, a
trigger fires. A repeat that does harm would undo this.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from support.airflow.real_airflow import DAG_ID, RUN_ID, TaskIds, add_task, change_task

PROCESS = {"hostname": "host-1", "unixname": "root", "pid": 4711}
PASSWORD = "a-password-of-a-tested-connection"
NOW = datetime.now(UTC)


@dataclass
class Subject:
    """A task instance or a connection test, and the things of Airflow that belong to no other one.

    Attributes:
        ids: Of a task instance; of a connection test only the job.
        name: Of its variable, asset and trigger, and in the id of its DAG run.
        target: A DAG that has no other use than being triggered and cleared.
        downstream: Another task instance of the same run.
    """

    ids: TaskIds
    name: str
    target: str
    is_test: bool = False
    downstream: TaskIds | None = None

    @property
    def run(self) -> str:
        """The id of the DAG run that it triggers or clears."""
        return f"run-{self.name}"

    @property
    def ti(self) -> str:
        """The path of its own calls."""
        return f"task-instances/{self.ids.ti_id}"

    @property
    def xcom(self) -> str:
        """The path of its XComs."""
        return f"xcoms/{DAG_ID}/{RUN_ID}/{self.ids.task_id}"


@dataclass(frozen=True)
class Call:
    """A call."""

    method: str
    path: str
    body: Any = None


def _nothing(_: Subject) -> None:
    """Nothing."""


@dataclass(frozen=True)
class Write:
    """A write of the Execution API.

    Attributes:
        rule: Its path in the table of rules.
        call: Path and body for a subject.
        prepare: Creates what is there before.
        meanwhile: What happens in Airflow after the write, before a repeat arrives.
        task_state: Of the task instance before.
        is_test: The subject is a connection test.
    """

    name: str
    method: str
    rule: str
    call: Callable[[Subject], tuple[str, Any]]
    prepare: Callable[[Subject], None] = _nothing
    meanwhile: Callable[[Subject], None] = _nothing
    task_state: str = "running"
    is_test: bool = field(default=False)

    def subject(self, target: str) -> Subject:
        """A new one, prepared. Blocks."""
        if self.is_test:
            test_id = add_connection_test()
            subject = Subject(TaskIds("", test_id, ""), f"n{uuid.uuid4().hex[:12]}", target, is_test=True)
        else:
            process = PROCESS if self.task_state == "running" else {}
            subject = Subject(add_task(self.task_state, **process), f"n{uuid.uuid4().hex[:12]}", target)
        self.prepare(subject)
        return subject

    def call_of(self, subject: Subject) -> Call:
        """The call of a subject."""
        path, body = self.call(subject)
        return Call(self.method, path, body)


def _state(state: str, **more: Any) -> Callable[[Subject], tuple[str, Any]]:
    def call(subject: Subject) -> tuple[str, Any]:
        return f"{subject.ti}/state", {"state": state, **more}

    return call


def _success(subject: Subject) -> tuple[str, Any]:
    asset = {"name": subject.name, "uri": f"x://{subject.name}/"}
    event = {"dest_asset_key": asset, "extra": {"rows": 3}}
    outlets = [{**asset, "type": "Asset"}]
    body = {"state": "success", "end_date": NOW.isoformat(), "task_outlets": outlets, "outlet_events": [event]}
    return f"{subject.ti}/state", body


def _deferred(subject: Subject) -> tuple[str, Any]:
    body = {"state": "deferred", "classpath": f"triggers.{subject.name}", "next_method": "resume"}
    return f"{subject.ti}/state", body


def _is_scheduled(subject: Subject) -> None:
    """A trigger fired, a person answered, or the time of a reschedule came."""
    change_task(subject.ids.ti_id, state="scheduled")


def _is_dispatched_again(subject: Subject) -> None:
    """The next try, which has a new id, is queued."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        of_task = TaskInstance.task_id == subject.ids.task_id
        session.execute(update(TaskInstance).where(of_task).values(state="queued", external_executor_id="another"))


def _add_asset(subject: Subject) -> None:
    from airflow.models.asset import AssetActive, AssetModel
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        asset = AssetModel(name=subject.name, uri=f"x://{subject.name}/", group="asset")
        session.add(asset)
        session.flush()
        session.add(AssetActive.for_asset(asset))


def _add_asset_state(subject: Subject) -> None:
    _add_asset(subject)
    from airflow._shared.state import AssetScope
    from airflow.models.asset import AssetModel
    from airflow.state import get_state_backend
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        asset_id = session.scalar(select(AssetModel.id).where(AssetModel.name == subject.name))
        assert asset_id is not None
        for key in ("k", "other"):
            get_state_backend().set(AssetScope(asset_id=asset_id), key, '"old"', session=session)


def _add_task_state(subject: Subject) -> None:
    from airflow._shared.state import TaskScope
    from airflow.state import get_state_backend
    from airflow.utils.session import create_session

    scope = TaskScope(dag_id=DAG_ID, run_id=RUN_ID, task_id=subject.ids.task_id, map_index=-1)
    with create_session(scoped=False) as session:
        for key in ("a/key", "other"):
            get_state_backend().set(scope, key, '"old"', session=session)


def _add_variable(subject: Subject) -> None:
    from airflow.models import Variable

    Variable.set(subject.name, "old")


def _add_xcoms(subject: Subject) -> None:
    from airflow.models.xcom import XComModel

    task_id = subject.ids.task_id
    for key in ("return_value", "other"):
        XComModel.set(key=key, value="old", serialize=False, dag_id=DAG_ID, run_id=RUN_ID, task_id=task_id)


def _add_downstream(subject: Subject) -> None:
    subject.downstream = add_task(state="scheduled")


def _add_question(subject: Subject, **answer: Any) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        asked = {"options": ["yes", "no"], "subject": "Go?", "params": {}, "params_input": {}}
        session.add(HITLDetail(ti_id=uuid.UUID(subject.ids.ti_id), **asked, **answer))


def _person_answers(subject: Subject) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        question = session.get(HITLDetail, uuid.UUID(subject.ids.ti_id))
        assert question is not None
        question.responded_at, question.chosen_options = datetime.now(UTC), ["no"]
        question.responded_by = {"id": "1", "name": "a person"}


def _add_finished_run(subject: Subject) -> None:
    create_run(subject.target, subject.run)
    _change_run(subject, "success", task="success")


def _run_begins(subject: Subject) -> None:
    _change_run(subject, "running", task="running")


def _change_run(subject: Subject, state: str, *, task: str) -> None:
    from airflow.models import DagRun, TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        for model, to in ((DagRun, state), (TaskInstance, task)):
            of_run = model.run_id == subject.run
            values = {"_state": to} if model is DagRun else {"state": to}
            session.execute(update(model).where(of_run).values(**values))


def create_run(dag_id: str, run_id: str) -> None:
    """A run of a DAG that is in Airflow's database."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session(scoped=False) as session:
        stored = SerializedDagModel.get(dag_id, session=session)
        assert stored is not None
        stored.dag.create_dagrun(
            run_id=run_id,
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            session=session,
        )


def add_connection_test() -> str:
    """A user wants a connection tested at the edge; gives the test's id."""
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        name = f"tested-{uuid.uuid4().hex[:8]}"
        request = ConnectionTestRequest(connection_id=name, conn_type="http", host="example.com", password=PASSWORD)
        session.add(request)
        session.flush()
        return str(request.id)


def _is_fetched(subject: Subject) -> None:
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        test = session.get(ConnectionTestRequest, uuid.UUID(subject.ids.job))
        assert test is not None
        test.state = "running"


def _asset_state(by: str, last: str, body: Any) -> Callable[[Subject], tuple[str, Any]]:
    def call(subject: Subject) -> tuple[str, Any]:
        name = subject.name if by == "name" else f"x%3A%2F%2F{subject.name}%2F"
        return f"store/asset/by-{by}/{last}?{by}={name}" + ("&key=k" if last == "value" else ""), body

    return call


_ASSET_STATES = [
    Write(
        f"an asset's state by {by}, {what}",
        method,
        f"store/asset/by-{by}/{last}",
        _asset_state(by, last, body),
        _add_asset_state,
    )
    for by in ("name", "uri")
    for what, method, last, body in (
        ("set", "PUT", "value", {"value": {"a": 1}}),
        ("deleted", "DELETE", "value", None),
        ("cleared", "DELETE", "clear", None),
    )
]
_END = {"end_date": NOW.isoformat()}
_OWN_XCOM = "xcoms/{dag}/{run}/{task}/**"
_STATE = "task-instances/{ti}/state"
_LATER = (NOW + timedelta(hours=1)).isoformat()

WRITES = [
    Write(
        "start",
        "PATCH",
        "task-instances/{ti}/run",
        lambda s: (f"{s.ti}/run", {"state": "running", **PROCESS, "start_date": NOW.isoformat()}),
        task_state="queued",
    ),
    Write("success with an asset event", "PATCH", _STATE, _success, _add_asset),
    Write("failed", "PATCH", _STATE, _state("failed", **_END)),
    Write("skipped", "PATCH", _STATE, _state("skipped", **_END)),
    Write("retry", "PATCH", _STATE, _state("up_for_retry", **_END), meanwhile=_is_dispatched_again),
    Write(
        "reschedule",
        "PATCH",
        _STATE,
        _state("up_for_reschedule", reschedule_date=_LATER, **_END),
        meanwhile=_is_scheduled,
    ),
    Write("deferral", "PATCH", _STATE, _deferred, meanwhile=_is_scheduled),
    Write("deferral, and dispatched again", "PATCH", _STATE, _deferred, meanwhile=_is_dispatched_again),
    Write(
        "wait for a person",
        "PATCH",
        _STATE,
        _state("awaiting_input", next_method="resume"),
        _add_question,
        meanwhile=_is_scheduled,
    ),
    Write(
        "heartbeat",
        "PUT",
        "task-instances/{ti}/heartbeat",
        lambda s: (f"{s.ti}/heartbeat", {"hostname": "host-1", "pid": 4711}),
    ),
    Write("rendered fields", "PUT", "task-instances/{ti}/rtif", lambda s: (f"{s.ti}/rtif", {"command": s.name})),
    Write(
        "skip of downstream tasks",
        "PATCH",
        "task-instances/{ti}/skip-downstream",
        lambda s: (f"{s.ti}/skip-downstream", {"tasks": [s.downstream.task_id if s.downstream else ""]}),
        _add_downstream,
    ),
    Write(
        "name of a mapped task",
        "PATCH",
        "task-instances/{ti}/rendered-map-index",
        lambda s: (f"{s.ti}/rendered-map-index", "a name"),
    ),
    Write(
        "task state, set",
        "PUT",
        "store/ti/{ti}/**",
        lambda s: (f"store/ti/{s.ids.ti_id}/a/key", {"value": [1]}),
        _add_task_state,
    ),
    Write(
        "task state, deleted",
        "DELETE",
        "store/ti/{ti}/**",
        lambda s: (f"store/ti/{s.ids.ti_id}/a/key", None),
        _add_task_state,
    ),
    Write(
        "task state, cleared", "DELETE", "store/ti/{ti}", lambda s: (f"store/ti/{s.ids.ti_id}", None), _add_task_state
    ),
    *_ASSET_STATES,
    Write("variable, set", "PUT", "variables/**", lambda s: (f"variables/{s.name}", {"value": "new"}), _add_variable),
    Write("variable, deleted", "DELETE", "variables/**", lambda s: (f"variables/{s.name}", None), _add_variable),
    Write("XCom", "POST", _OWN_XCOM, lambda s: (f"{s.xcom}/return_value", {"a": [1, 2.5, None, "ü"]})),
    Write("XCom in place of another", "POST", _OWN_XCOM, lambda s: (f"{s.xcom}/return_value", "new"), _add_xcoms),
    Write(
        "XCom that tasks are mapped over",
        "POST",
        _OWN_XCOM,
        lambda s: (f"{s.xcom}/return_value?mapped_length=3&dag_result=true", [1, 2, 3]),
    ),
    Write("one of multiple outputs", "POST", _OWN_XCOM, lambda s: (f"{s.xcom}/a/key", 1)),
    Write("XCom, deleted", "DELETE", _OWN_XCOM, lambda s: (f"{s.xcom}/return_value", None), _add_xcoms),
    Write(
        "trigger of a run",
        "POST",
        "dag-runs/*/*",
        lambda s: (f"dag-runs/{s.target}/{s.run}", {}),
        meanwhile=_run_begins,
    ),
    Write(
        "clear of a run",
        "POST",
        "dag-runs/*/*/clear",
        lambda s: (f"dag-runs/{s.target}/{s.run}/clear", None),
        _add_finished_run,
        meanwhile=_run_begins,
    ),
    Write(
        "question to a person",
        "POST",
        "hitlDetails/{ti}",
        lambda s: (f"hitlDetails/{s.ids.ti_id}", {"ti_id": s.ids.ti_id, "options": ["yes", "no"], "subject": "Go?"}),
        meanwhile=_person_answers,
    ),
    Write(
        "question asked again",
        "POST",
        "hitlDetails/{ti}",
        lambda s: (f"hitlDetails/{s.ids.ti_id}", {"ti_id": s.ids.ti_id, "options": ["yes", "no"], "subject": "Go?"}),
        lambda s: _add_question(s, responded_at=NOW, chosen_options=["yes"]),
        meanwhile=_person_answers,
    ),
    Write(
        "answer to a question",
        "PATCH",
        "hitlDetails/{ti}",
        lambda s: (f"hitlDetails/{s.ids.ti_id}", {"ti_id": s.ids.ti_id, "chosen_options": ["yes"]}),
        _add_question,
    ),
    Write(
        "connection of a connection test",
        "GET",
        "connection-tests/{auxiliary job}/connection",
        lambda s: (f"connection-tests/{s.ids.job}/connection", None),
        is_test=True,
    ),
    Write(
        "result of a connection test",
        "PATCH",
        "connection-tests/{auxiliary job}",
        lambda s: (f"connection-tests/{s.ids.job}", {"state": "success", "result_message": "it answers"}),
        _is_fetched,
        is_test=True,
    ),
]
