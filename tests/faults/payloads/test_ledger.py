"""No payload is lost or handled twice at once while consumers, relay and NATS are killed and links are cut.

Each handler writes down its life. An attempt that began is counted: the record knows at least as many as the ledger.
"""

import asyncio
import json
import os
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.producers.submissions import JobStatus
from edge_worker.client import AsyncProducer
from faults.chaos.judge import twice_at_once
from faults.chaos.ledger import Ledger, Life
from faults.payloads.storm import Storm, consumer_processes
from support.nats.server import eventually
from support.relay.producers import producer
from support.system.site import Site

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    # nats-py leaves the connection open that it cannot replace.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOLERANCE_S = 10.0
CONSUMERS = 3
LAST_ATTEMPT = 100


def judge(status: JobStatus, lives: Sequence[Life], *, dead: bool) -> list[str]:
    """What is wrong with one job; empty if it went as promised.

    Args:
        status: At the end.
        lives: Of its handlers.
        dead: Whether each of its attempts asked for another one.
    """
    problems = twice_at_once(lives)
    attempts = [life.attempt for life in lives]
    if len(set(attempts)) < len(attempts):
        problems.append(f"one attempt was handled twice: {attempts}")
    if max(attempts, default=0) > status.attempt:
        problems.append(f"attempt {max(attempts)} was handled, {status.attempt} are counted")
    if dead:
        if status.parked is None or status.attempt != status.max_attempts:
            problems.append(f"it is not parked after {status.attempt} of {status.max_attempts} attempts")
        return problems
    outcome = status.outcome
    if outcome is None or outcome.verdict is not Verdict.SUCCEEDED or outcome.result is None:
        return [*problems, f"it has not succeeded: {status.state}, {status.parked}, {outcome}"]
    if outcome.result.text != str(status.attempt):
        problems.append(f"the result is of attempt {outcome.result.text}, the last one is {status.attempt}")
    if not any(life.attempt == status.attempt and "end" in life.events for life in lives):
        problems.append("it has succeeded, and no handler came to its end")
    late = [life.attempt for life in lives if life.began > outcome.ended_at.timestamp()]
    if late:
        problems.append(f"attempts {late} began after its end")
    return problems


async def storm(site: Site, folder: Path, *, jobs: int, rounds: int) -> None:
    """Submit so many jobs before each round, wait for all, and judge."""
    seed = int(os.environ.get("PAYLOADS_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    queue, ledger = f"payloads-{uuid.uuid4().hex[:8]}", Ledger(folder / "ledger")
    secret = (await producer(site.edge, queue, name=queue)).secret
    async with (
        consumer_processes(site, queue, folder, ledger.path, count=CONSUMERS) as consumers,
        AsyncProducer(site.edge.relays[0].workers_url, token=secret, ca_file=site.edge.ca) as calls,
    ):
        retries: dict[str, int] = {}
        for _ in range(rounds):
            before = len(ledger.lives())
            for number in range(jobs):
                # One in ten asks for another attempt each time, and one in five once.
                again = LAST_ATTEMPT if number % 10 == 0 else int(number % 5 == 1)
                work = {"ticks": chance.choice([1, 4, 40, 120]), "retries": again}
                most = 3 if again == LAST_ATTEMPT else LAST_ATTEMPT
                terms = {"max_attempts": most, "offline_tolerance_s": TOLERANCE_S}
                retries[await calls.submit(queue, json.dumps(work), **terms)] = again  # type: ignore[arg-type]
            await eventually(lambda: len(ledger.lives()) > before, timeout_s=30, what="a handler begins")  # noqa: B023
            await Storm(site, consumers, chance, TOLERANCE_S).round()

        async def settled(job: str) -> JobStatus:
            async with asyncio.timeout(120):
                while True:
                    status = await calls.status(job, wait_s=2)
                    if status.state is JobState.ENDED or status.parked is not None:
                        return status

        ends = {job: await settled(job) for job in retries}
    lives = ledger.lives(queue)
    problems = [
        f"job {job}: {problem}"
        for job, status in ends.items()
        for problem in judge(
            status, [life for life in lives if life.instance.task == job], dead=retries[job] == LAST_ATTEMPT
        )
    ]
    assert not problems, "\n".join([f"PAYLOADS_SEED={seed}", *problems])
    assert len(lives) > len(ends), "no handler was interrupted"


async def test_no_payload_is_lost_or_handled_twice_at_once(site: Site, tmp_path: Path) -> None:
    await storm(site, tmp_path, jobs=40, rounds=1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_no_payload_is_lost_in_many_storms(site: Site, tmp_path: Path) -> None:
    await storm(site, tmp_path, jobs=100, rounds=12)
