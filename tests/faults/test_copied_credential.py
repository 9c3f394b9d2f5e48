"""A worker's state folder is copied to a second machine, while jobs run, and both agents are switched on."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_broker import subjects
from edge_schemas.admin.rows import WorkerRow
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.workers import WorkerState
from support.nats.server import eventually
from support.system.inspection import messages
from support.system.scripted_jobs import scripted_job
from support.system.site import Machine, Site, enrolled, machine
from support.worker.agent_process import WITH_FAKE_RUNTIME

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="session")]


async def _published(site: Site, worker: Machine) -> Job:
    return await site.publish(scripted_job(site, worker))


async def _listed(site: Site, worker: str) -> WorkerRow:
    reply = await site.edge.admin("GET", "/v1/admin/workers")
    [found] = [summary for summary in reply.json["items"] if summary["worker"] == worker]
    return WorkerRow.model_validate(found)


async def _command(site: Site, *arguments: str) -> str:
    """What an operator types."""
    environment = {
        "PATH": os.environ["PATH"],
        "RELAY_ADMIN_URL": site.edge.relays[0].operators_url,
        "RELAY_ACCESS_TOKEN": site.edge.access_token,
        **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_relay", *arguments), env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def _audited(site: Site, action: str, worker: str) -> list[dict[str, Any]]:
    stored = [json.loads(message["data"]) for message in await messages(site.broker, subjects.AUDIT)]
    return [fact for fact in stored if fact["action"] == action and fact["target"] == worker]


async def test_a_copied_credential_loses_nothing_and_is_named(site: Site, tmp_path: Path) -> None:
    identity = await enrolled(site)
    name = identity.enrollment.worker
    with machine(site, identity, tmp_path / "first" / "state", slots=3) as first:
        first.command = WITH_FAKE_RUNTIME
        await first.start()
        jobs = [await _published(site, first) for _ in range(2)]
        for job in jobs:
            await site.began(job)
        shutil.copytree(first.settings.state_dir, tmp_path / "second" / "state")
        with machine(site, identity, tmp_path / "second" / "state", slots=3) as second:
            second.command = WITH_FAKE_RUNTIME
            await second.start()

            async def is_in_conflict() -> bool:
                return (await _listed(site, name)).state is WorkerState.CONFLICT

            # The older agent is told at its next poll that it was superseded, and polls again to say that it lives.
            await eventually(is_in_conflict, timeout_s=90, what="both agents noticed")
            assert len((await _listed(site, name)).conflict) == 2
            assert f"{name}: two agents use its credential" in await _command(site, "workers", "list")
            assert await _audited(site, "credential-copied", name)
            # The older agent has one slot left, the newer one three, and gets nothing.
            more = [await _published(site, first) for _ in range(2)]
            await eventually(lambda: any(site.ledger(job.id) for job in more), timeout_s=90)
            [other] = [job for job in more if not site.ledger(job.id)]
            assert (await site.record(other)).state is JobState.WAITING
            assert {(await site.record(job)).state for job in jobs} == {JobState.RUNNING}
            assert not any(event["event"] == "job_started" for event in second.events())
            await second.kill_all()
        await _command(site, "workers", "resolve", name, "--keep", "older", "--reason", "a clone")
        for job in (*jobs, *more):
            site.flag(job.id).touch()
        for job in (*jobs, *more):
            record = await site.ended(job)
            assert record.outcome is not None
            assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
            assert [line.what for line in site.ledger(job.id)] == ["begin", "end"]
        assert (await _listed(site, name)).state is WorkerState.ONLINE
