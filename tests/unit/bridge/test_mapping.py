"""Workload to job, outcome to event: what travels, what is refused, what Airflow is told."""

import uuid
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from edge_bridge.ledger import Entry, Verb
from edge_bridge.mapping import JobRefused, TaskRow, due_report, is_dispatch_id, job_of, report_of
from edge_schemas.jobs import TaskIdentity
from edge_schemas.records import Outcome, Verdict

JOB = str(uuid.uuid4())
NOW = datetime.now(UTC)


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
    job = job_of(workload(), core_executor="LocalExecutor,edge:x.Y", team="t1", now=NOW)
    assert (job.id, job.queue, job.team, job.published_at) == (JOB, "plant 1", "t1", NOW)
    assert (job.work.task.try_number, job.work.task.map_index) == (2, 3)
    assert job.work.core_executor == "LocalExecutor,edge:x.Y"
    assert set(job.work.workload) == {"ti", "dag_rel_path", "bundle_info", "log_path", "sentry_integration"}
    assert job.work.workload["bundle_info"] == {"name": "b", "version": None}
    assert "a-token" not in job.model_dump_json()


@pytest.mark.parametrize("missing", [None, "", "celery-1", JOB.upper(), JOB.replace("-", "")])
def test_without_a_dispatch_id_of_its_own_a_task_is_refused(missing: str | None) -> None:
    assert not is_dispatch_id(missing)
    with pytest.raises(JobRefused, match="by its alias"):
        job_of(workload(external_executor_id=missing), core_executor="x", team=None, now=NOW)


@pytest.mark.parametrize("queue", ["", " padded", "line\nbreak", "x" * 101, "\N{SNOWMAN}" * 40])
def test_a_queue_name_that_nats_cannot_carry_is_refused(queue: str) -> None:
    with pytest.raises(JobRefused, match="queue"):
        job_of(workload(queue=queue), core_executor="x", team=None, now=NOW)


@pytest.mark.parametrize(
    ("verdict", "verb"),
    [
        (Verdict.SUCCEEDED, Verb.SUCCEED),
        (Verdict.CANCELLED, Verb.SUCCEED),
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
        (TaskRow("running", JOB), True),
        (TaskRow("queued", JOB), True),
        (TaskRow("success", JOB), True),
        (TaskRow("running", "another dispatch"), False),
        (TaskRow("queued", "another dispatch"), False),
        (TaskRow("scheduled", JOB), False),
        (TaskRow("up_for_reschedule", JOB), False),
        (TaskRow("up_for_retry", JOB), False),
        (TaskRow("deferred", JOB), False),
        (TaskRow(None, None), False),
        (None, False),
    ],
)
def test_airflow_is_told_only_while_the_event_can_mean_this_dispatch(row: TaskRow | None, told: bool) -> None:
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    entry = Entry(key="k", job=JOB, dispatch=JOB, task=task)
    entry.report = report_of("k", JOB, Outcome(verdict=Verdict.FAILED, ended_at=NOW))
    report = due_report(entry, row)
    assert report is entry.report if told else report.verb is Verb.FORGET


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_task_cleared_while_it_ran_begins_anew_however_the_job_ended(verdict: Verdict) -> None:
    """Its process may have failed, or its worker been lost, before the stop reached it."""
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    entry = Entry(key="k", job=JOB, dispatch=JOB, task=task)
    entry.report = report_of("k", JOB, Outcome(verdict=verdict, ended_at=NOW))
    assert due_report(entry, TaskRow("restarting", JOB)).verb is Verb.SUCCEED
    assert due_report(entry, TaskRow("restarting", "another dispatch")).verb is Verb.FORGET
