"""What operators have set for a queue holds for a real executor, also for the next one after a restart."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import DESIRED_BUCKET
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.jobs import JobKind
from support.airflow.airflow_home import dag_run, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]


async def set_queue(edge: Any, **settings: Any) -> None:
    desired = DesiredQueue(version=1, **settings)
    await Bucket(edge.broker, DESIRED_BUCKET).put("queue.default", desired.model_dump_json(exclude_none=True).encode())


@pytest.fixture
def restarted(centres: Centres) -> Callable[[], Any]:
    """An executor that has followed others, which have ended."""

    def make() -> Any:
        centres().executor.terminate()
        return centres()

    return make


async def knows(centre: Any, **settings: Any) -> None:
    rules = centre.executor._background._settings.queues.rules

    def is_known() -> bool:
        found = rules("default")
        return all(getattr(found, name) == value for name, value in settings.items())

    await eventually(is_known, what=f"the executor knows {settings}")


async def test_the_tolerance_of_a_queue_is_in_its_jobs(restarted: Callable[[], Any], edge: Any) -> None:
    await set_queue(edge, tolerance_s=7200)
    centre = restarted()
    await eventually(
        lambda: centre.executor._background._settings.queues.rules("default").offline.tolerance_s == 7200,
        what="the executor knows",
    )
    with dag_run(1) as dag:
        record = await edge.appears(centre.dispatch(dag)["t0"])
        assert record.offline.tolerance_s == 7200


async def test_a_kind_that_a_queue_refuses_fails_with_the_reason(
    restarted: Callable[[], Any], edge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await set_queue(edge, kinds=(JobKind.CALLBACK,))
    centre = restarted()
    await knows(centre, kinds=(JobKind.CALLBACK,))
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "failed", "the task fails")
        assert job is None or await edge.record(job) is None
    await Bucket(edge.broker, DESIRED_BUCKET).put("queue.default", DesiredQueue(version=2).model_dump_json().encode())
    await knows(centre, kinds=None)
    with dag_run(1) as dag:
        await edge.appears(centre.dispatch(dag)["t0"])


async def test_a_job_waits_no_longer_than_its_queue_allows(restarted: Callable[[], Any], edge: Any) -> None:
    """Also one that was dispatched before the limit was set."""
    centre = restarted()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await set_queue(edge, timeout_s=0.5)
        await knows(centre, timeout_s=0.5)

        async def is_given_up() -> bool:
            record = await edge.record(job)
            return record is None or record.state is JobState.ENDED

        await eventually(is_given_up, timeout_s=20, what="the job has waited too long")
        record = await edge.record(job)
        assert record is None or record.outcome.verdict is not Verdict.SUCCEEDED


async def test_a_limit_holds_for_the_first_jobs_after_a_restart(restarted: Callable[[], Any], edge: Any) -> None:
    """Without waiting for the executor to have read what operators have set."""
    await set_queue(edge, max_running=1)
    centre = restarted()
    with dag_run(4) as dag:
        jobs = list(centre.dispatch(dag).values())
        for job in jobs:
            await eventually(partial(edge.record, job), what="all records")
        await knows(centre, max_running=1)
        records = [await edge.record(job) for job in jobs]
        assert centre.executor._portal.call(lambda: centre.executor._background.flush(0), 5) >= 0
        messages = [record for record in records if await edge.message(record) is not None]
        assert len(messages) == 1
