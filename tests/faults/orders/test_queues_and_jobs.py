"""A paused queue grants nothing over restarts, and a cancelled job's process ends within two seconds and its grace."""

import os
import time

import pytest

from edge_bridge.keeper.why import waiting_lines
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import LOGS, waiting_log_subject
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire import routes
from faults.orders.waiting import has_polled, serves_again
from support.nats.server import eventually
from support.relay.edge import Reply
from support.system.site import Machine, Site

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="session")]

WITHIN_S = 2.0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _order(site: Site, worker: Machine, do: str, **more: object) -> Reply:
    body = {"action": {"do": do, **more}, "queues": [{"queue": worker.queue}], "reason": "a test"}
    reply = await site.edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)
    assert reply.json["changed"] == [worker.queue], reply.body
    return reply


# nats-py leaves the connection open that it cannot replace.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_paused_queue_grants_nothing_over_restarts_and_what_runs_goes_on(site: Site, worker: Machine) -> None:
    running = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(running)
    await _order(site, worker, "pause")
    waits = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    await site.stop_relay()
    await site.start_relay()
    await site.server.stop(kill=True)
    await site.server.start()
    await serves_again(site)
    await has_polled(site, worker, after=time.time())
    site.flag(running.id).touch()
    assert (await site.ended(running)).outcome is not None
    await has_polled(site, worker, after=time.time())
    assert (await site.record(waits)).state is JobState.WAITING
    why = await site.edge.admin("GET", routes.ADMIN_JOB_WHY.format(job=waits.id))
    assert why.json["causes"][0]["code"] == "queue_paused", why.body
    await _order(site, worker, "resume")
    outcome = (await site.ended(waits)).outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.SUCCEEDED


async def test_a_restart_of_the_keeper_keeps_what_is_set_for_a_queue(
    site: Site, worker: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next keeper knows why a job waits that was queued while there was none, and serves the job that runs."""
    monkeypatch.setattr(waiting_lines, "FIRST_AFTER_S", 0.1)
    running = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(running)
    await _order(site, worker, "set", max_running=3)
    await _order(site, worker, "pause")
    await site.stop_keeper()
    waits = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    await site.start_keeper()
    assert waits.task is not None
    subject = waiting_log_subject(waits.task.ti_id, waits.task.try_number, waits.id)
    line = await eventually(
        lambda: last_message(site.broker, LOGS, subject), timeout_s=30, what="a line in the log of the job that waits"
    )
    assert line is not None
    assert b"paused" in line.data
    assert (await site.record(waits)).state is JobState.WAITING
    [row] = [
        row
        for row in (await site.edge.admin("GET", f"{routes.ADMIN_QUEUES}?text={worker.queue}")).json["items"]
        if row["queue"] == worker.queue
    ]
    assert (row["settings"]["max_running"], row["settings"]["order"]["availability"]) == (3, "paused")
    site.flag(running.id).touch()
    for job in (running, waits):
        outcome = (await site.ended(job)).outcome
        assert outcome is not None
        assert outcome.verdict is Verdict.SUCCEEDED
        if job is running:
            await _order(site, worker, "resume")
    await _order(site, worker, "set", max_running=None)


async def test_a_cancelled_job_ends_its_process_in_time(site: Site, worker: Machine) -> None:
    job = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(job)
    pid = site.ledger(job.id)[0].pid
    assert _lives(pid)
    body = {"action": {"do": "cancel"}, "jobs": [job.id], "reason": "the wrong press"}
    began = time.monotonic()
    assert (await site.edge.admin("POST", routes.ADMIN_JOB_ACTIONS, body)).json["changed"] == [job.id]
    await eventually(lambda: not _lives(pid), timeout_s=20, what="the process of the job is gone")
    assert time.monotonic() - began < WITHIN_S + worker.settings.grace_s
    record = await site.ended(job)
    assert record.outcome is not None
    assert record.outcome.verdict is not Verdict.SUCCEEDED
    assert b"the wrong press" in worker.local_log(job.id)
