"""A real relay, a real agent, and a process with the relay's NATS rights that alters what it can."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from edge_broker.jetstream.append import publish_once
from edge_broker.jetstream.stream_info import purge
from edge_broker.permissions import RELAY
from edge_broker.subjects import JOBS, job_subject
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import BundleRef, Job, JobKind
from edge_schemas.wire.workers import EnrollTokenRequest
from edge_worker.agent.enroll import enroll
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.nats.server import connected
from support.nats.server import eventually as until
from support.relay.agents import publish
from support.relay.edge import Edge, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate
from support.relay.fake_relay import FakeRelay
from support.signing.keys import SigningCentre, signing_centre
from support.worker.agent import Agent, eventually, running_agent
from support.worker.agent_process import kill_jobs
from support.worker.fake_runtime import script_job

NO_FAKE = cast("FakeRelay", None)
"""The agent is enrolled at a real relay."""


@pytest.fixture
def keys(tmp_path: Path) -> SigningCentre:
    return signing_centre(tmp_path / "keys")


@pytest.fixture
async def gate() -> AsyncIterator[FakeGate]:
    async with running_gate() as gate:
        yield gate


@pytest.fixture
async def edge(tmp_path: Path, gate: FakeGate, keys: SigningCentre) -> AsyncIterator[Edge]:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    announce(gate, keys)
    async with running_edge(tmp_path, gate_urls=(gate.url,), gate_key_file=secret) as edge:
        yield edge


@pytest.fixture
def settings(edge: Edge, tmp_path: Path) -> Iterator[Settings]:
    short = Path(tempfile.mkdtemp(prefix="ew-"))
    yield Settings(
        relay_url=edge.relays[0].workers_url,
        ca_file=edge.ca,
        state_dir=tmp_path / "state",
        runtime_dir=short,
        slots=2,
        grace_s=0.5,
    )
    kill_jobs(tmp_path / "state" / "jobs")
    shutil.rmtree(short)


def announce(gate: FakeGate, keys: SigningCentre) -> None:
    facts = CentreFacts(airflow_version="3.3.2", python_version="3.12.1", signing_keys=keys.sets)
    gate.body = facts.model_dump_json().encode()


@asynccontextmanager
async def enrolled_agent(edge: Edge, settings: Settings) -> AsyncIterator[Agent]:
    """Enrolled, and running."""
    state = StateDir(settings.state_dir)
    state.prepare()
    request = EnrollTokenRequest(queues=("default",), site="plant", uses=1, ttl_s=60)
    token = await edge.enrollments.create_token(request, now=datetime.now(UTC))
    assert settings.relay_url is not None
    await enroll(settings.relay_url, token.token, settings, state, pause=asyncio.sleep)
    async with running_agent(NO_FAKE, settings) as agent:
        yield agent


def new_job(bundle: BundleRef | None = None) -> Job:
    return script_job("print('as signed')").model_copy(update={"published_at": datetime.now(UTC), "bundle": bundle})


def altered(job: Job, before: str, after: str) -> Job:
    """The job with another text in what was signed, and outside."""
    assert job.signed is not None
    payload = job.signed.payload.replace(before, after)
    assert payload != job.signed.payload
    signed = job.signed.model_copy(update={"payload": payload})
    return Job.model_validate_json(job.model_copy(update={"signed": signed}).model_dump_json().replace(before, after))


async def record_of(edge: Edge, job: Job) -> JobRecord:
    record = await edge.records.get(job.id)
    assert record is not None
    return record


async def released(edge: Edge, job: Job) -> JobRecord:
    async def found() -> JobRecord | bool:
        record = await record_of(edge, job)
        return record if record.releases else False

    record = await until(found, what="the release")
    assert isinstance(record, JobRecord)
    return record


async def test_a_job_that_was_altered_in_nats_is_refused_and_the_reason_is_kept(
    edge: Edge, settings: Settings, keys: SigningCentre
) -> None:
    """Another program, another digest of the code, another task instance, and no signature at all."""
    jobs = {
        what: keys.sign(new_job(BundleRef(name="dags", digest="0" * 64)))
        for what in ("argv", "digest", "task", "unsigned")
    }
    task = jobs["task"].task
    assert task is not None
    forged = {
        "argv": altered(jobs["argv"], "as signed", "as altered"),
        "digest": altered(jobs["digest"], "0" * 64, "f" * 64),
        "task": altered(jobs["task"], task.ti_id, str(uuid.uuid4())),
        "unsigned": new_job().model_copy(update={"id": jobs["unsigned"].id}),
    }
    for job in jobs.values():
        await publish(edge.broker, job)
    async with connected(edge.server, RELAY) as relay:
        for job in forged.values():
            subject = job_subject(None, "default", JobKind.TASK, job.id)
            await purge(relay, JOBS, subject)
            await publish_once(relay, subject, job.model_dump_json().encode(), message_id=f"{job.id}.forged")
    async with enrolled_agent(edge, settings) as agent:
        for what, job in forged.items():
            record = await released(edge, job)
            assert (record.state, record.holder) == (JobState.WAITING, None)
            why = "has not signed" if what == "unsigned" else "altered after it was signed"
            assert record.releases[0].reason.startswith("job_not_signed: ")
            assert why in record.releases[0].reason
        assert agent.runtime.launched == []


async def test_a_rotation_reaches_the_worker_through_the_relay_and_no_job_is_lost(
    edge: Edge, settings: Settings, keys: SigningCentre, gate: FakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, between and after; the worker is offline while the keys change."""
    monkeypatch.setattr("edge_relay.gate.centre.FRESH_FOR_S", 0.0)
    before, between = keys.sign(new_job()), None
    async with enrolled_agent(edge, settings) as agent:
        first = keys.sign(new_job())
        await publish(edge.broker, first)
        await eventually(lambda: first.id in agent.runtime.launched)
    await publish(edge.broker, before)
    keys.rotate()
    between = keys.sign(new_job())
    await publish(edge.broker, between)
    announce(gate, keys)
    async with running_agent(NO_FAKE, settings) as agent:
        await eventually(lambda: {before.id, between.id} <= set(agent.runtime.launched))
    keys.retire()
    after = keys.sign(new_job())
    await publish(edge.broker, after)
    announce(gate, keys)
    async with running_agent(NO_FAKE, settings) as agent:
        await eventually(lambda: after.id in agent.runtime.launched)
    for job in (before, between, after):
        assert (await record_of(edge, job)).releases == ()
