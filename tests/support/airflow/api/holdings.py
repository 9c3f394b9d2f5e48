"""All that Airflow holds of a job, to compare what a write and its repeat have done with what the write alone does."""

import uuid
from collections import Counter
from typing import Any

from support.airflow.api.writes import Subject


def holdings(subject: Subject) -> dict[str, str]:
    """All that Airflow holds of a subject, without times and without names that are its own."""
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        held = _of_test(session, subject) if subject.is_test else _of_task(session, subject)
    return {name: impersonal(value, subject) for name, value in held.items()}


def _of_test(session: Any, subject: Subject) -> dict[str, Any]:
    from airflow.models.connection_test import ConnectionTestRequest

    test = session.get(ConnectionTestRequest, uuid.UUID(subject.ids.job))
    return {"test": (str(test.state), test.result_message, test.active_connection_id is None)}


def _of_task(session: Any, subject: Subject) -> dict[str, Any]:
    from airflow.models import DagRun, Log, TaskInstance, Trigger, Variable
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel
    from airflow.models.hitl import HITLDetail
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.models.taskmap import TaskMap
    from airflow.models.taskreschedule import TaskReschedule
    from airflow.models.xcom import XComModel
    from sqlalchemy import func, select

    def rows(*columns: Any, **where: Any) -> list[tuple[Any, ...]]:
        return sorted(map(tuple, session.execute(select(*columns).filter_by(**where))), key=repr)

    task = {"task_id": subject.ids.task_id}
    ti = TaskInstance
    assets = select(AssetModel.id).where(AssetModel.name == subject.name)
    events = session.scalar(select(func.count()).select_from(AssetEvent).where(AssetEvent.asset_id.in_(assets)))
    asset_state = select(AssetStateStoreModel.key, AssetStateStoreModel.value).where(
        AssetStateStoreModel.asset_id.in_(assets)
    )
    triggers = select(func.count()).select_from(Trigger).where(Trigger.classpath == f"triggers.{subject.name}")
    questions = select(HITLDetail.options, HITLDetail.chosen_options).where(
        HITLDetail.ti_id == uuid.UUID(subject.ids.ti_id)
    )
    others = select(ti.state).where(ti.task_id == (subject.downstream.task_id if subject.downstream else ""))
    return {
        "task": rows(ti.state, ti.hostname, ti.pid, ti._rendered_map_index, ti.next_method, ti.try_number, **task),
        "tries before": len(rows(TaskInstanceHistory.state, **task)),
        "XComs": rows(XComModel.key, XComModel.value, XComModel.dag_result, **task),
        "mapped over": rows(TaskMap.length, **task),
        "rendered fields": rows(RenderedTaskInstanceFields.rendered_fields, **task),
        "reschedules": len(rows(TaskReschedule.id, ti_id=uuid.UUID(subject.ids.ti_id))),
        "triggers": session.scalar(triggers),
        "audit log": Counter(event for (event,) in rows(Log.event, **task)),
        "asset events": events,
        "asset state": sorted(map(tuple, session.execute(asset_state))),
        "task state": rows(TaskStateStoreModel.key, TaskStateStoreModel.value, **task),
        "variable": rows(Variable._val, key=subject.name),
        "run": rows(DagRun._state, DagRun.clear_number, run_id=subject.run),
        "tasks of the run": rows(ti.state, ti.try_number, run_id=subject.run),
        "tries of the run": len(rows(TaskInstanceHistory.state, run_id=subject.run)),
        "question": sorted(map(tuple, session.execute(questions)), key=repr),
        "downstream": list(session.scalars(others)),
    }


def impersonal(value: Any, subject: Subject) -> str:
    """A value as text, without the names that are the subject's own."""
    text = repr(value)
    for name, own in (
        ("id", subject.ids.ti_id),
        ("task", subject.ids.task_id),
        ("name", subject.name),
        ("job", subject.ids.job),
    ):
        if own:
            text = text.replace(own, f"<{name}>")
    return text
