"""Consumers of the client library against a relay that follows the wire: each way in which a handler can end."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState, Outcome, Verdict
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy
from edge_worker.client import AsyncConsumer, Consumer, PayloadJob, Refused, Reject, Retry, SettingsError, Stopped
from support.operators.consumers import consuming
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay
from support.relay.jobs import make_command, payload_job


async def ended(relay: FakeRelay, job: Job) -> Outcome:
    await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    return outcome


class Stage:
    """A handler that says when it has begun, and waits for its cancellation."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.seen: list[PayloadJob] = []

    async def __call__(self, job: PayloadJob) -> None:
        self.seen.append(job)
        self.begun.set()
        await asyncio.Event().wait()


async def test_a_payload_is_handled_and_its_result_and_log_arrive(relay: FakeRelay, tmp_path: Path) -> None:
    seen: list[PayloadJob] = []

    async def handle(job: PayloadJob) -> str:
        seen.append(job)
        job.log("begun")
        return job.text.upper()

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        outcome = await ended(relay, job)
    assert outcome.verdict is Verdict.SUCCEEDED
    assert outcome.result is not None
    assert outcome.result.text == "A PAYLOAD"
    assert b'"event": "begun"' in relay.logs[job.id]
    [one] = seen
    assert (one.id, one.attempt, one.max_attempts, one.queue) == (job.id, 1, 3, "default")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (b"\0" * (256 * 1024 + 1), "the result is larger than 256 KiB: store it elsewhere and return a reference"),
        ({"a": 1}, "the handler returned dict; a result is bytes, str or None"),
    ],
    ids=["too large", "not bytes"],
)
async def test_a_result_that_cannot_be_sent_fails_the_job(
    relay: FakeRelay, tmp_path: Path, result: bytes, reason: str
) -> None:
    """A repetition would do the work again for the same result."""

    async def handle(_: PayloadJob) -> bytes:
        return result

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, reason)


async def test_reject_fails_the_job(relay: FakeRelay, tmp_path: Path) -> None:
    async def handle(_: PayloadJob) -> None:
        raise Reject("no such meter")

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "no such meter")


@pytest.mark.parametrize(
    ("error", "reason", "delay_s"),
    [
        (Retry(30, "the meter is busy"), "the meter is busy", 30),
        (LookupError("no line"), "the handler raised LookupError: no line", 2),
    ],
    ids=["retry", "another error"],
)
async def test_a_job_waits_again_after_retry_and_after_an_error(
    relay: FakeRelay, tmp_path: Path, error: Exception, reason: str, delay_s: float
) -> None:
    async def handle(_: PayloadJob) -> None:
        raise error

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
    [release] = relay.released
    assert (release.reason, release.delay_s) == (reason, delay_s)
    record = relay.records[job.id]
    assert (record.state, record.attempt) == (JobState.WAITING, 1)


async def test_a_cancelled_job_cancels_its_handler(relay: FakeRelay, tmp_path: Path) -> None:
    stage, job = Stage(), payload_job()
    async with consuming(relay.url, tmp_path, stage, token=ENROLL_TOKEN):
        await relay.publish(job)
        await stage.begun.wait()
        await relay.withdraw(job.id, "not wanted")
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.reason) == (Verdict.CANCELLED, "not wanted")
    assert stage.seen[0].stop_reason == "not wanted"


async def test_a_handler_is_cancelled_once_and_may_clean_up(relay: FakeRelay, tmp_path: Path) -> None:
    """The relay repeats its directive with each poll."""
    begun, cancelled, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(_: PayloadJob) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await go.wait()

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        await begun.wait()
        await relay.withdraw(job.id, "not wanted")
        await cancelled.wait()
        seen = len(relay.polls)
        await relay.until(lambda: len(relay.polls) > seen + 1)
        assert relay.state(job.id) is JobState.STOPPING
        go.set()
        outcome = await ended(relay, job)
    assert outcome.verdict is Verdict.CANCELLED


async def test_a_job_that_another_consumer_has_is_stopped_and_not_reported(relay: FakeRelay, tmp_path: Path) -> None:
    stage, job = Stage(), payload_job()
    async with consuming(relay.url, tmp_path, stage, token=ENROLL_TOKEN):
        await relay.publish(job)
        await stage.begun.wait()
        relay.hand_over(job.id, "another")
        await relay.until(lambda: stage.seen[0].stop_reason is not None)
    assert relay.finishes.get(job.id) is None
    assert relay.released == []
    assert relay.records[job.id].state is JobState.RUNNING


async def test_a_handler_is_stopped_before_its_consumer_loses_the_job(relay: FakeRelay, tmp_path: Path) -> None:
    """At half of a short tolerance; when the relay is back, the job is released and not finished."""
    stage = Stage()
    job = payload_job().model_copy(update={"offline": OfflinePolicy(tolerance_s=10)})
    async with consuming(relay.url, tmp_path, stage, token=ENROLL_TOKEN):
        await relay.publish(job)
        await stage.begun.wait()
        await relay.stop()
        async with asyncio.timeout(10):
            while stage.seen[0].stop_reason is None:  # noqa: ASYNC110 - a clock sets no event
                await asyncio.sleep(0.05)
        with pytest.raises(Stopped, match="no contact with the relay for 5 s"):
            stage.seen[0].check()
        await relay.start()
        await relay.until(lambda: relay.records[job.id].holder is None)
    assert relay.records[job.id].state is JobState.WAITING


async def test_a_cut_shorter_than_the_tolerance_stops_nothing(relay: FakeRelay, tmp_path: Path) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def handle(job: PayloadJob) -> str:
        begun.set()
        await release.wait()
        job.check()
        return "done"

    job = payload_job()
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN):
        await relay.publish(job)
        await begun.wait()
        await relay.stop()
        release.set()
        await relay.start()
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.SUCCEEDED, 0)


async def test_handlers_run_at_the_same_time_up_to_the_slots(relay: FakeRelay, tmp_path: Path) -> None:
    """The second job ends first; the third one waits for a slot."""
    names: list[str] = []
    two, go = asyncio.Event(), asyncio.Event()

    async def handle(job: PayloadJob) -> None:
        names.append(job.id)
        if len(names) == 2:
            two.set()
        await go.wait()

    jobs = [payload_job() for _ in range(3)]
    async with consuming(relay.url, tmp_path, handle, token=ENROLL_TOKEN, slots=2):
        for job in jobs:
            await relay.publish(job)
        await two.wait()
        await relay.until(lambda: relay.polls[-1].free == 0 and len(relay.polls[-1].jobs) == 2)
        assert len(names) == 2
        go.set()
        for job in jobs:
            await ended(relay, job)


async def test_drain_waits_for_handlers_and_takes_nothing_new(relay: FakeRelay, tmp_path: Path) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(_: PayloadJob) -> None:
        begun.set()
        await go.wait()

    job, late = payload_job(), payload_job()
    async with AsyncConsumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN) as consumer:
        running = asyncio.create_task(consumer.run(handler=handle))
        await relay.publish(job)
        await begun.wait()
        consumer.drain()
        await relay.until(lambda: relay.polls[-1].draining)
        await relay.publish(late)
        go.set()
        async with asyncio.timeout(10):
            await running
    assert relay.state(job.id) is JobState.ENDED
    assert relay.state(late.id) is JobState.WAITING


async def test_a_cancelled_consumer_releases_its_jobs(relay: FakeRelay, tmp_path: Path) -> None:
    """Otherwise the next consumer would get them after the whole tolerance."""
    stage, job = Stage(), payload_job()
    async with AsyncConsumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN) as consumer:
        running = asyncio.create_task(consumer.run(stage))
        await relay.publish(job)
        await stage.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    record = relay.records[job.id]
    assert (record.state, record.attempt, record.holder) == (JobState.WAITING, 1, None)


async def test_only_payloads_are_wanted(relay: FakeRelay, tmp_path: Path) -> None:
    stage = Stage()
    async with consuming(relay.url, tmp_path, stage, token=ENROLL_TOKEN):
        await relay.until(lambda: bool(relay.polls) and relay.polls[-1].poll_timeout_s > 0)
        await relay.publish(make_command("true"))
        assert relay.polls[-1].kinds == ("payload",)
    assert stage.seen == []


async def test_the_identity_is_kept_and_one_folder_serves_one_consumer(relay: FakeRelay, tmp_path: Path) -> None:
    async with AsyncConsumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN) as consumer:
        name = consumer.name
        with pytest.raises(SettingsError, match="another edge-worker uses the state folder"):
            await AsyncConsumer(state_dir=tmp_path).__aenter__()
    async with AsyncConsumer(state_dir=tmp_path) as again:
        assert again.name == name


async def test_a_consumer_without_a_valid_token_does_not_start(relay: FakeRelay, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pass enroll_token_file"):
        await AsyncConsumer(relay.url, state_dir=tmp_path).__aenter__()
    with pytest.raises(Refused, match="enrollment_refused"):
        await AsyncConsumer(relay.url, state_dir=tmp_path, enroll_token="ere_wrong").__aenter__()


async def test_a_revoked_consumer_leaves(relay: FakeRelay, tmp_path: Path) -> None:
    async with AsyncConsumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN) as consumer:
        relay.revoked.add(consumer.name)
        async with asyncio.timeout(30):
            with pytest.raises(Refused, match="credential_revoked"):
                await consumer.run(Stage())


def in_thread(target: Callable[[], None]) -> "asyncio.Future[None]":
    return asyncio.ensure_future(asyncio.to_thread(target))


async def test_a_plain_function_runs_in_a_thread(relay: FakeRelay, tmp_path: Path) -> None:
    threads: list[str] = []

    def handle(job: PayloadJob) -> bytes:
        threads.append(threading.current_thread().name)
        job.log("in a thread")
        return job.body

    job = payload_job()
    consumer = Consumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN)
    running = in_thread(lambda: consumer.run(handle))
    await relay.publish(job)
    outcome = await ended(relay, job)
    consumer.drain()
    async with asyncio.timeout(20):
        await running
    assert outcome.result is not None
    assert outcome.result.body == b"a payload"
    assert threads[0].startswith("payload")
    assert b"in a thread" in relay.logs[job.id]


async def test_a_function_that_is_stopped_keeps_its_job_until_it_has_ended(relay: FakeRelay, tmp_path: Path) -> None:
    """Its thread goes on: if the job ended before, the same work could run twice at the same time."""
    begun, go = threading.Event(), threading.Event()
    reasons: list[str | None] = []

    def handle(job: PayloadJob) -> None:
        begun.set()
        go.wait(20)
        reasons.append(job.stop_reason)
        job.check()

    job = payload_job()
    consumer = Consumer(relay.url, state_dir=tmp_path, enroll_token=ENROLL_TOKEN)
    running = in_thread(lambda: consumer.run(handle))
    await relay.publish(job)
    await asyncio.to_thread(begun.wait, 20)
    await relay.withdraw(job.id, "not wanted")
    seen = len(relay.polls)
    await relay.until(lambda: len(relay.polls) > seen)
    assert relay.state(job.id) is JobState.STOPPING
    go.set()
    outcome = await ended(relay, job)
    consumer.drain()
    async with asyncio.timeout(20):
        await running
    assert reasons == ["not wanted"]
    assert outcome.verdict is Verdict.CANCELLED
