"""Workload to job, outcome to event: what travels, what is refused, what Airflow is told."""

import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from edge_bridge.airflow.dispatch_table import Entry, Verb
from edge_bridge.airflow.mapping import JobMaker, JobRefused, Row, due_report, is_dispatch_id, report_of
from edge_bridge.airflow.queues import QueueRules, Queues
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.life.model import Outcome, Verdict
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, AuxiliaryWork, JobKind, TaskIdentity, TaskWork
from edge_schemas.wire.offline import OfflinePolicy, OnSilence

JOB = str(uuid.uuid4())
NOW = datetime.now(UTC)
PATIENT = OfflinePolicy(tolerance_s=86400, on_silence=OnSilence.CONTINUE)


def maker(**changes: Any) -> JobMaker:
    """Makes jobs with rules of its own for the queue "plant 1"."""
    queues = Queues(QueueRules(OfflinePolicy()), {"plant 1": QueueRules(PATIENT)})
    return JobMaker(**{"core_executor": "x", "team": None, "queues": queues, "auxiliary_queues": {}, **changes})


def workload(**ti: Any) -> Any:
    """A workload of Airflow, made by its own model."""
    from airflow.executors.workloads import ExecuteTask

    made = ExecuteTask.model_validate(
        {
            "token": "a-token-nobody-may-see",
            "dag_rel_path": "d.py",
            "bundle_info": {"name": "b", "version": None},
            "log_path": "a/b.log",
            "ti": {
                "id": str(uuid.uuid4()),
                "task_id": "t",
                "dag_id": "d",
                "run_id": "r",
                "try_number": 2,
                "map_index": 3,
                "dag_version_id": str(uuid.uuid4()),
                "queue": "plant 1",
                "pool_slots": 1,
                "priority_weight": 1,
                "external_executor_id": JOB,
                **ti,
            },
        }
    )
    return cast("Any", made)


def test_a_job_carries_the_workload_and_no_token() -> None:
    job = maker(core_executor="LocalExecutor,edge:x.Y", team="t1", airflow_version="3.3.2").task(workload(), NOW)
    assert (job.id, job.queue, job.team, job.published_at) == (JOB, "plant 1", "t1", NOW)
    assert isinstance(job.work, TaskWork)
    assert job.work.airflow_version == "3.3.2"
    assert (job.work.task.try_number, job.work.task.map_index) == (2, 3)
    assert job.work.core_executor == "LocalExecutor,edge:x.Y"
    assert set(job.work.workload) == {"ti", "dag_rel_path", "bundle_info", "log_path", "sentry_integration"}
    assert job.work.workload["bundle_info"] == {"name": "b", "version": None}
    assert "a-token" not in job.model_dump_json()


@pytest.mark.parametrize(
    "missing",
    [None, "", "celery-1", JOB.upper(), JOB.replace("-", "")],
    ids=["none", "empty", "of another executor", "in capitals", "without dashes"],
)
def test_without_a_dispatch_id_of_its_own_a_task_is_refused(missing: str | None) -> None:
    assert not is_dispatch_id(missing)
    with pytest.raises(JobRefused, match="by its alias"):
        maker().task(workload(external_executor_id=missing), NOW)


@pytest.mark.parametrize("queue", ["", " padded", "line\nbreak", "x" * 101, "\N{SNOWMAN}" * 40])
def test_a_queue_name_that_nats_cannot_carry_is_refused(queue: str) -> None:
    with pytest.raises(JobRefused, match="queue"):
        maker().task(workload(queue=queue), NOW)


def test_a_kind_that_its_queue_does_not_accept_is_refused_with_the_reason() -> None:
    made = maker()
    made.queues.set_desired("plant 1", DesiredQueue(kinds=(JobKind.CALLBACK,)))
    with pytest.raises(JobRefused, match="'plant 1' accepts no job of kind task, only callback: an operator"):
        made.task(workload(), NOW)
    assert made.task(workload(queue="other"), NOW).queue == "other"


def test_each_job_carries_the_offline_policy_of_its_queue() -> None:
    assert maker().task(workload(), NOW).offline == PATIENT
    assert maker().task(workload(queue="other"), NOW).offline == OfflinePolicy()


def callback(**changes: Any) -> Any:
    """A callback of a deadline, made by Airflow's own model."""
    from airflow.executors.workloads import ExecuteCallback

    data = {"path": "a.b", "kwargs": {"at": NOW}, "dag_run_id": 1}
    return ExecuteCallback.model_validate(
        {
            "token": "a-token-nobody-may-see",
            "callback": {"id": JOB, "fetch_method": "import_path", "data": data, **changes},
            "dag_rel_path": "d.py",
            "bundle_info": {"name": "b"},
            "log_path": "executor_callbacks/d/r/1",
        }
    )


def connection_test(queue: str | None = None) -> Any:
    """A test that a user asked for, made by Airflow's own model."""
    from airflow.executors.workloads import TestConnection

    return TestConnection(
        token="a-token-nobody-may-see", connection_test_id=uuid.UUID(JOB), connection_id="c", timeout=9, queue=queue
    )


WANTED = {AuxiliaryKind.CALLBACK: "calls", AuxiliaryKind.CONNECTION_TEST: "tests"}


@pytest.mark.parametrize(
    ("made", "kind", "queue", "keys"),
    [
        (callback, AuxiliaryKind.CALLBACK, "calls", {"type", "callback", "dag_rel_path", "bundle_info", "log_path"}),
        (
            connection_test,
            AuxiliaryKind.CONNECTION_TEST,
            "tests",
            {"type", "connection_test_id", "connection_id", "timeout"},
        ),
        (
            lambda: connection_test("own"),
            AuxiliaryKind.CONNECTION_TEST,
            "own",
            {"type", "connection_test_id", "connection_id", "timeout"},
        ),
    ],
)
def test_an_auxiliary_job_goes_to_its_queue_under_its_own_id(
    made: Any, kind: AuxiliaryKind, queue: str, keys: set[str]
) -> None:
    job = maker(auxiliary_queues=WANTED).auxiliary(made(), NOW)
    assert (job.id, job.queue, job.task, job.auxiliary) == (JOB, queue, None, AuxiliaryJob(kind=kind, id=JOB))
    assert isinstance(job.work, AuxiliaryWork)
    assert set(job.work.workload) == keys
    assert "a-token" not in job.model_dump_json()


@pytest.mark.parametrize(("made", "option"), [(callback, "callback_queue"), (connection_test, "connection_test_queue")])
def test_an_auxiliary_job_without_a_queue_is_refused_with_the_option_that_helps(made: Any, option: str) -> None:
    with pytest.raises(JobRefused, match=option):
        maker().auxiliary(made(), NOW)


def test_an_auxiliary_job_that_cannot_be_told_from_others_or_carried_is_refused() -> None:
    with pytest.raises(JobRefused, match="UUID"):
        maker(auxiliary_queues=WANTED).auxiliary(callback(id="c1"), NOW)
    with pytest.raises(JobRefused, match="JSON"):
        maker(auxiliary_queues=WANTED).auxiliary(callback(data={"kwargs": object()}), NOW)


@pytest.mark.parametrize(
    ("verdict", "verb"),
    [
        (Verdict.SUCCEEDED, Verb.SUCCEED),
        (Verdict.CANCELLED, Verb.FAIL),
        (Verdict.FAILED, Verb.FAIL),
        (Verdict.LOST, Verb.FAIL),
    ],
)
def test_each_verdict_has_its_event(verdict: Verdict, verb: Verb) -> None:
    report = report_of("k", JOB, Outcome(verdict=verdict, reason="no power", ended_at=NOW))
    assert report.verb is verb
    assert report.info == f"edge job {JOB} {verdict}: no power"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (Row("running", JOB), True),
        (Row("queued", JOB), True),
        (Row("success", JOB), True),
        (Row("running", "another dispatch"), False),
        (Row("queued", "another dispatch"), False),
        (Row("scheduled", JOB), False),
        (Row("up_for_reschedule", JOB), False),
        (Row("up_for_retry", JOB), False),
        (Row("deferred", JOB), False),
        (Row(None, None), False),
        (None, False),
    ],
)
def test_airflow_is_told_only_while_the_event_can_mean_this_dispatch(row: Row | None, told: bool) -> None:
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    entry = Entry(key="k", job=JOB, dispatch=JOB, task=task)
    entry.report = report_of("k", JOB, Outcome(verdict=Verdict.FAILED, ended_at=NOW))
    report = due_report(entry, row)
    assert report is entry.report if told else report.verb is Verb.FORGET


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_task_cleared_while_it_ran_begins_again_however_the_job_ended(verdict: Verdict) -> None:
    """Its process may have failed, or its worker been lost, before the stop reached it."""
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    entry = Entry(key="k", job=JOB, dispatch=JOB, task=task)
    entry.report = report_of("k", JOB, Outcome(verdict=verdict, ended_at=NOW))
    assert due_report(entry, Row("restarting", JOB)).verb is Verb.SUCCEED
    assert due_report(entry, Row("restarting", "another dispatch")).verb is Verb.FORGET


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_an_operator_cancelled_has_failed(state: str) -> None:
    """Airflow waits for it still, so it was not Airflow that wanted the end; a success would be no end of the task."""
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    entry = Entry(key="k", job=JOB, dispatch=JOB, task=task)
    entry.report = report_of("k", JOB, Outcome(verdict=Verdict.CANCELLED, reason="cancelled by ann", ended_at=NOW))
    report = due_report(entry, Row(state, JOB))
    assert (report.verb, report.info) == (Verb.FAIL, f"edge job {JOB} cancelled: cancelled by ann")
    assert due_report(entry, Row(state, "another dispatch")).verb is Verb.FORGET
    assert due_report(entry, Row("scheduled", JOB)).verb is Verb.FORGET


@pytest.mark.parametrize(
    ("state", "told"), [("queued", True), ("running", True), ("success", False), ("failed", False)]
)
def test_an_auxiliary_job_is_told_only_while_airflow_waits_for_it(state: str, told: bool) -> None:
    """Airflow takes each event of a callback, also one that would turn its success into a failure."""
    entry = Entry(key="k", job=JOB, dispatch=JOB, auxiliary=AuxiliaryJob(kind=AuxiliaryKind.CALLBACK, id=JOB))
    entry.report = report_of("k", JOB, Outcome(verdict=Verdict.LOST, ended_at=NOW))
    assert due_report(entry, Row(state, JOB)).verb is (Verb.FAIL if told else Verb.FORGET)
