"""A worker whose runtime is too new for the centre's jobs takes none, runs none, and says why."""

from datetime import UTC, datetime

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import AuxiliaryKind, Job
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay
from support.relay.jobs import make_auxiliary_job, make_job
from support.worker.agent import running_agent
from support.worker.fake_runtime import script_job


def of_centre(version: str) -> Job:
    """A job of a centre with this Airflow; the runtime of these tests has 3.3.2."""
    job = script_job("print('ran')")
    work = job.work.model_copy(update={"airflow_version": version})
    return job.model_copy(update={"work": work, "published_at": datetime.now(UTC)})


def auxiliary(kind: AuxiliaryKind, workload_type: str, *, as_task: bool = False) -> Job:
    made = make_auxiliary_job(kind=kind)
    script = script_job("print('ran')").workload
    work = (make_job() if as_task else made).work.model_copy(update={"workload": {**script, "type": workload_type}})
    return (make_job() if as_task else made).model_copy(update={"work": work})


FORBIDDEN = [
    auxiliary(AuxiliaryKind.CALLBACK, "ExecuteCallback"),
    auxiliary(AuxiliaryKind.CONNECTION_TEST, "TestConnection"),
    auxiliary(AuxiliaryKind.CALLBACK, "ExecuteCallback", as_task=True),
    auxiliary(AuxiliaryKind.CALLBACK, "ExecuteTask"),
    auxiliary(AuxiliaryKind.CALLBACK, "OfALaterVersion"),
]


@pytest.mark.parametrize("job", FORBIDDEN, ids=lambda job: f"{type(job.work).__name__} {job.workload['type']}")
async def test_what_the_owner_does_not_allow_is_not_run(relay: FakeRelay, settings: Settings, job: Job) -> None:
    """A relay, or whoever holds its key, could else have the worker call any function."""
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
        release = relay.released[0]
        assert release.counted, "so that it is parked and does not go round for ever"
        assert "allowed" in release.reason or "different kinds" in release.reason
        assert (agent.runtime.launched, relay.requests[f"/v1/jobs/{job.id}/start"]) == ([], 0)
        assert relay.polls[-1].auxiliary == ()


async def test_what_the_owner_allows_is_run(relay: FakeRelay, settings: Settings) -> None:
    job = auxiliary(AuxiliaryKind.CALLBACK, "ExecuteCallback")
    allowed = settings.model_copy(update={"auxiliary_jobs": (AuxiliaryKind.CALLBACK,)})
    async with running_agent(relay, allowed) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        assert agent.runtime.launched == [job.id]
        assert relay.polls[-1].auxiliary == (AuxiliaryKind.CALLBACK,)


@pytest.mark.parametrize("path", ["/etc/dag.py", "../../tmp/dag.py", "a/../../b.py"])
async def test_no_file_outside_of_the_bundles_is_run(relay: FakeRelay, settings: Settings, path: str) -> None:
    job = script_job("print('ran')")
    work = job.work.model_copy(update={"workload": {**job.workload, "dag_rel_path": path}})
    async with running_agent(relay, settings) as agent:
        await relay.publish(job.model_copy(update={"work": work}))
        await relay.until(lambda: bool(relay.released))
        assert (relay.released[0].reason, agent.runtime.launched) == ("the path of the DAG leaves its bundle", [])


async def test_it_gives_back_what_it_cannot_run_before_anything_is_started(
    relay: FakeRelay, settings: Settings
) -> None:
    """A relay that does not look at versions grants it all the same. It counts for nothing: the job is not at fault."""
    job = of_centre("3.2.5")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
        assert (relay.released[0].counted, relay.requests[f"/v1/jobs/{job.id}/start"]) == (False, 0)
        assert "3.3.2, newer than the centre's 3.2.5" in relay.released[0].reason
        await relay.until(lambda: relay.polls[-1].free == 0)
        assert relay.polls[-1].no_jobs_reason == relay.released[0].reason
        assert agent.runtime.launched == []


async def test_it_believes_the_relay_that_says_so(
    relay: FakeRelay, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    relay.required_airflow = "3.2.5"
    async with running_agent(relay, settings):
        await relay.publish(of_centre("3.2.5"))
        await relay.until(lambda: any(poll.no_jobs_reason and "3.2.5" in poll.no_jobs_reason for poll in relay.polls))
        assert relay.state(next(iter(relay.records))) is JobState.WAITING
    assert [record.message for record in caplog.records].count("runtime_too_new") == 1


async def test_a_centre_that_is_as_new_or_newer_is_served(relay: FakeRelay, settings: Settings) -> None:
    jobs = [of_centre(version) for version in ("3.3.0", "3.10.1", "main")]
    async with running_agent(relay, settings):
        for job in jobs:
            await relay.publish(job)
        await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in jobs))
    assert relay.released == []
