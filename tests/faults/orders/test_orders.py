"""What operators order reaches a real worker through a real relay within two seconds, and survives restarts of all."""

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire import routes
from faults.orders.waiting import has_polled, serves_again
from support.nats.server import eventually
from support.system.site import Machine, Site

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="session")]

WITHIN_S = 2.0


def _settings(worker: Machine) -> list[dict[str, Any]]:
    return [event for event in worker.events() if event["event"] == "settings_changed"]


async def _order(site: Site, worker: Machine, do: str, **more: Any) -> dict[str, Any]:
    """An action; returns the settings that the worker has logged, which it must have in time."""
    known = len(_settings(worker))
    began = time.time()
    await site.edge.act_on_worker(worker.identity.enrollment.worker, do, **more)
    await eventually(lambda: len(_settings(worker)) > known, what=f"the worker knows of {do}")
    found = _settings(worker)[-1]
    assert datetime.fromisoformat(found["timestamp"]).timestamp() - began < WITHIN_S
    return found


async def _started(worker: Machine) -> None:
    """The newest agent has begun to work."""
    known = sum(event["event"] == "worker_started" for event in worker.events())
    await worker.start()
    await eventually(
        lambda: sum(event["event"] == "worker_started" for event in worker.events()) > known,
        timeout_s=30,
        what="the agent works",
    )


# nats-py leaves the connection open that it cannot replace.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_pause_survives_restarts_of_everything(site: Site, worker: Machine) -> None:
    assert (await _order(site, worker, "pause"))["availability"] == "paused"
    job = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    await site.stop_relay()
    await site.start_relay()
    await has_polled(site, worker, after=time.time())
    await site.server.stop(kill=True)
    await site.server.start()
    await serves_again(site)
    await worker.kill_agent()
    await _started(worker)
    await has_polled(site, worker, after=time.time())
    assert (await site.record(job)).state is JobState.WAITING
    assert worker.events()[-1]["event"] != "job_granted"
    assert (await _order(site, worker, "resume"))["availability"] == "active"
    record = await site.ended(job)
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.SUCCEEDED


async def test_slots_and_queues_change_at_run_time(site: Site, worker: Machine) -> None:
    """A job of a queue that the worker serves no more waits; one that runs goes on."""
    running = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(running)
    assert (await _order(site, worker, "set-slots", slots=1))["slots"] == 1
    waits = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    assert (await _order(site, worker, "set-queues", queues=["elsewhere"]))["queues"] == ["elsewhere"]
    site.flag(running.id).touch()
    assert (await site.ended(running)).outcome is not None
    await has_polled(site, worker, after=time.time())
    assert (await site.record(waits)).state is JobState.WAITING
    await _order(site, worker, "set-queues", as_enrolled=True)
    assert (await site.ended(waits)).outcome is not None
    assert (await _order(site, worker, "set-slots", slots=None)).get("slots") is None


async def test_a_site_is_drained_and_its_worker_stays_idle_when_it_is_started_again(
    site: Site, worker: Machine
) -> None:
    job = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(job)
    place = worker.identity.enrollment.site
    body = {"action": {"do": "drain"}, "sites": [place], "reason": "a weekend off"}
    assert (await site.edge.admin("POST", routes.ADMIN_SITE_ACTIONS, body)).json["changed"] == [place]
    site.flag(job.id).touch()
    async with asyncio.timeout(60):
        assert await worker.ended() == 0
    assert (await site.ended(job)).outcome is not None
    waits = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    await _started(worker)
    await has_polled(site, worker, after=time.time())
    assert (await site.record(waits)).state is JobState.WAITING
    resumed = {**body, "action": {"do": "resume"}}
    assert (await site.edge.admin("POST", routes.ADMIN_SITE_ACTIONS, resumed)).json["changed"] == [place]
    assert (await site.ended(waits)).outcome is not None


async def test_a_stopped_worker_stops_its_job_and_exits(site: Site, worker: Machine) -> None:
    job = await site.publish(site.prepare(worker, "until_told", result=1))
    await site.began(job)
    await _order(site, worker, "stop")
    async with asyncio.timeout(60):
        assert await worker.ended() == 0
    outcome = (await site.ended(job)).outcome
    assert outcome is not None
    assert outcome.verdict is not Verdict.SUCCEEDED
    assert b"an operator stops this worker: a test (by tests)" in worker.local_log(job.id)
    await _started(worker)
    await _order(site, worker, "resume")
    again = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    assert (await site.ended(again)).outcome is not None
