"""Which submitted job gets a message, and when: by priority, delay, group, limit of the queue."""

from datetime import UTC, datetime

from edge_relay.serve import serving
from edge_relay.upkeep.service import AHEAD
from edge_schemas.life.events import Finish, Redrive, Release, Start, Withdraw
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.nats.submitted import consume, has_message, reaches, submit, with_message
from support.relay.agents import Agent, agent, metric
from support.relay.edge import Edge
from support.relay.jobs import payload_job

KINDS = ["payload"]


async def run_one(worker: Agent) -> str:
    """Poll until a job is granted, start it and end it; its id."""
    [grant] = await worker.grants(kinds=KINDS)
    job: str = grant["job"]["id"]
    assert (await worker.start(grant)).status == 204
    assert (await worker.finish(job, exit_code=0)).status in {200, 204}
    return job


async def end(edge: Edge, job: Job) -> None:
    """A worker has run this job."""
    await edge.records.change(job.id, Start("somebody", 1, datetime.now(UTC)))
    await edge.records.change(job.id, Finish("somebody", 0, None, datetime.now(UTC)))


async def test_of_many_waiting_jobs_the_highest_priority_is_next(edge: Edge) -> None:
    """But for the few whose messages are already in NATS, which can't be put in another order."""
    early = [await submit(edge, payload_job()) for _ in range(AHEAD)]
    await has_message(edge, *early)
    low = [await submit(edge, payload_job(priority=number)) for number in range(3)]
    high = await submit(edge, payload_job(priority=10))
    worker = await agent(edge)
    run = [await run_one(worker) for _ in range(len(early) + len(low) + 1)]
    assert set(run[:AHEAD]) == {job.id for job in early}
    assert run[AHEAD:] == [job.id for job in (high, *reversed(low))]
    assert await with_message(edge) == set()


async def test_each_message_tells_which_attempt_it_is(edge: Edge) -> None:
    """A payload that was released after its start is granted again, as the second attempt."""
    await submit(edge, payload_job())
    worker = await agent(edge)
    [first] = await worker.grants(kinds=KINDS)
    assert (await worker.start(first)).status == 204
    assert (await worker.release(first)).status == 204
    [second] = await worker.grants(kinds=KINDS)
    assert [grant["job"]["attempt"] for grant in (first, second)] == [1, 2]


async def test_a_delayed_job_gets_its_message_when_the_delay_is_over(edge: Edge) -> None:
    """And one that is released with a delay, which has an older time of submission, too."""
    delayed = await submit(edge, payload_job(), delay_s=2)
    at_once = await submit(edge, payload_job())
    await has_message(edge, at_once)
    await has_message(edge, at_once, delayed)
    assert (datetime.now(UTC) - delayed.published_at).total_seconds() >= 2
    await edge.records.change(delayed.id, Start("somebody", 1, datetime.now(UTC)))
    released = datetime.now(UTC)
    event = Release("somebody", "later", counted=True, at=released, delay_s=1.5)
    await edge.records.change(delayed.id, event)
    await consume(edge, delayed)
    await has_message(edge, at_once)
    await has_message(edge, at_once, delayed)
    assert (datetime.now(UTC) - released).total_seconds() >= 1.5


async def test_jobs_of_a_group_run_one_after_the_other(edge: Edge) -> None:
    """In the order of their submission, whatever their priorities; those of other groups do not wait."""
    first, second, third = [await submit(edge, payload_job(group="pump-7", priority=n)) for n in range(3)]
    other = await submit(edge, payload_job(group="pump-8"))
    await has_message(edge, first, other)
    for done, following in ((first, second), (second, third)):
        await consume(edge, done)
        await edge.records.change(done.id, Start("somebody", 1, datetime.now(UTC)))
        await both_count_running(edge)
        assert await with_message(edge) == {other.id}, "the job before it has not ended"
        await edge.records.change(done.id, Finish("somebody", 0, None, datetime.now(UTC)))
        await has_message(edge, following, other)


async def both_count_running(edge: Edge) -> None:
    """Wait until both replicas know that a job of the queue runs."""
    of_queue = {"team": "", "queue": "default", "stage": "running"}

    def both() -> bool:
        return all(metric(edge, "edge_queue_submitted_jobs", of_queue, replica=number) == 1 for number in (0, 1))

    await eventually(both, what="both replicas count the running job")


async def test_a_parked_job_keeps_its_group_not_waiting_and_is_last_when_it_is_redriven(edge: Edge) -> None:
    first, second, third = [await submit(edge, payload_job(group="pump", max_attempts=1)) for _ in range(3)]
    await has_message(edge, first)
    await consume(edge, first)
    await edge.records.change(first.id, Start("somebody", 1, datetime.now(UTC)))
    await edge.records.change(first.id, Release("somebody", "no", counted=True, at=datetime.now(UTC)))
    await has_message(edge, second)
    await edge.records.change(first.id, Redrive("fixed", datetime.now(UTC)))
    for done, following in ((second, third), (third, first)):
        await consume(edge, done)
        await end(edge, done)
        await has_message(edge, following)


async def test_a_replica_that_starts_keeps_to_the_order_of_a_group(edge: Edge) -> None:
    """It has not seen the creation of the jobs, and what it lists shows the last change of each."""
    parked, running, third = [await submit(edge, payload_job(group="pump", max_attempts=1)) for _ in range(3)]
    await has_message(edge, parked)
    await consume(edge, parked)
    await edge.records.change(parked.id, Start("somebody", 1, datetime.now(UTC)))
    await edge.records.change(parked.id, Release("somebody", "no", counted=True, at=datetime.now(UTC)))
    await has_message(edge, running)
    await consume(edge, running)
    await edge.records.change(running.id, Start("somebody", 1, datetime.now(UTC)))
    await edge.records.change(parked.id, Redrive("fixed", datetime.now(UTC)))
    settings = edge.relays[0].parts.settings.model_copy(update={"name": "fresh"})
    async with serving(settings) as fresh:
        turns = fresh.parts.upkeep._turns
        await eventually(lambda: turns.lines and not turns.unlisted, what="the new replica knows all jobs and messages")
        assert await with_message(edge) == set()
        await edge.records.change(running.id, Finish("somebody", 0, None, datetime.now(UTC)))
        await has_message(edge, third)
        await consume(edge, third)
        await end(edge, third)
        await has_message(edge, parked)


async def test_a_limit_of_a_queue_holds_for_submitted_jobs(edge: Edge) -> None:
    """No more than so many have a message or run; a paused queue gets no message at all."""
    await _set(edge, {"do": "set", "max_running": 2})
    jobs = [await submit(edge, payload_job()) for _ in range(4)]
    await has_message(edge, *jobs[:2])
    await consume(edge, jobs[0])
    await edge.records.change(jobs[0].id, Start("somebody", 1, datetime.now(UTC)))
    await both_count_running(edge)
    assert await with_message(edge) == {jobs[1].id}
    await edge.records.change(jobs[0].id, Finish("somebody", 0, None, datetime.now(UTC)))
    await has_message(edge, *jobs[1:3])


async def test_a_paused_queue_gets_no_message_until_it_is_resumed(edge: Edge) -> None:
    await _set(edge, {"do": "pause"})
    job = await submit(edge, payload_job())
    other = await submit(edge, payload_job(queue="other"))
    await has_message(edge, other)
    await _set(edge, {"do": "resume"})
    await has_message(edge, other, job)


async def _set(edge: Edge, action: dict[str, object]) -> None:
    order = {"action": action, "queues": [{"queue": "default"}], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, order)
    assert reply.status == 200, reply.body


async def test_the_message_of_a_job_that_ends_unstarted_is_removed(edge: Edge) -> None:
    """Else it would stay in NATS for as long as no worker serves the queue."""
    job = await submit(edge, payload_job())
    await has_message(edge, job)
    await edge.records.change(job.id, Withdraw("cancelled by its producer", datetime.now(UTC)))
    await has_message(edge)


async def test_a_missing_message_is_stored_again_at_the_next_connection(edge: Edge) -> None:
    """NATS is restarted, and has lost it."""
    job = await submit(edge, payload_job())
    await has_message(edge, job)
    await consume(edge, job)
    await edge.server.stop(kill=True)
    await edge.server.start()
    await edge.broker.wait_connected(20)
    await has_message(edge, job)
    record = await reaches(edge.records, job, lambda record: record.state is JobState.WAITING)
    assert record.attempt == 0
