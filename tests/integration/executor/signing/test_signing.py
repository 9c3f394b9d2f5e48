"""The executor signs what it publishes, and republishes only what it has signed."""

import argparse
import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_bridge.signing.cli import run
from edge_broker.bucket import Bucket
from edge_broker.permissions import RELAY
from edge_broker.subjects import RECORDS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.signing.key_sets import by_id, fingerprint
from edge_schemas.signing.payload import JOB_CONTEXT, job_in, restored
from edge_schemas.wire.jobs import Job
from edge_service.signing.ed25519 import is_signed_by, read_public_keys
from support.airflow.airflow_home import dag_run, task_rows
from support.nats.server import connected, eventually
from support.signing.keys import SigningCentre, signing_centre

Centres = Callable[[], Any]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SigningCentre:
    keys = signing_centre(tmp_path / "keys")
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__SIGNING_KEY_FILE", str(keys.key_file))
    return keys


async def appears(edge: Any, job: str) -> tuple[JobRecord, Job]:
    """The record and the job in the message."""
    record = await edge.appears(job)
    return record, await published(edge, record)


async def published(edge: Any, record: JobRecord) -> Job:
    message = await edge.message(record)
    return Job.model_validate_json(b64decode(message["data"]))


async def test_each_job_is_signed_by_the_keys_in_use_and_stored_once(
    centres: Centres, edge: Any, keys: SigningCentre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workload, the largest part, is in what was signed and not outside of it. A rotation needs no restart."""
    centre = centres()
    monkeypatch.setattr("edge_bridge.signing.changing_file.CHECK_EVERY_S", 0)
    with dag_run(1) as dag:
        record, job = await appears(edge, centre.dispatch(dag)["t0"])
        assert job == record.job
        assert job.signed is not None
        assert is_signed_by(job.signed, JOB_CONTEXT, by_id(keys.keys))
        signed = job_in(job.signed)
        assert set(job.workload) == {"ti"}
        assert signed.workload["dag_rel_path"]
        assert restored(job).work == signed.work
        assert (signed.id, signed.queue, signed.task) == (record.id, record.queue, record.task)
    keys.rotate()
    with dag_run(1) as dag:
        _, later = await appears(edge, centre.dispatch(dag)["t0"])
        assert later.signed is not None
        assert {signature.key for signature in later.signed.signatures} == by_id(keys.keys).keys()


async def test_only_what_was_signed_is_republished_and_as_it_was_signed(
    centres: Centres, edge: Any, keys: SigningCentre, server: NatsServer
) -> None:
    """The NATS user of the relay may write records and acknowledge messages. What it adds outside changes nothing."""
    centre = centres()
    with dag_run(4) as dag:
        jobs = centre.dispatch(dag)
        records = {task: await edge.appears(job) for task, job in jobs.items()}
        await _seen_waiting(centre, *jobs.values())
        other_queue = records["t0"].job.model_copy(update={"queue": "another"})
        altered = {
            "t0": records["t0"].model_copy(update={"queue": "another", "job": other_queue}),
            "t1": records["t1"].model_copy(update={"job": _without_signature(records["t1"].job)}),
            "t2": records["t2"].model_copy(update={"job": _with_another_dag(records["t2"].job)}),
            "t3": records["t3"].model_copy(
                update={"job": records["t3"].job.model_copy(update={"traceparent": "altered"})}
            ),
        }
        async with connected(server, RELAY) as relay:
            bucket = Bucket(relay, RECORDS_BUCKET)
            for task, record in altered.items():
                stored = await bucket.get(record.id)
                value = record.model_dump_json(exclude_none=True).encode()
                await bucket.put(record.id, value, revision=stored.revision)
                await edge.drop_message(records[task])
        centre.compare()
        repaired = await eventually(lambda: edge.message(records["t3"]), what="the message of the fourth")
        assert repaired
        assert (await published(edge, records["t3"])).traceparent == records["t3"].job.traceparent
        await centre.beats_until(lambda: {key.task_id for key in centre.executor.running} == {"t3"})
        rows = task_rows(dag.dag_id)
        assert {rows[task].state for task in ("t0", "t1", "t2")} == {"failed"}
        for task in ("t0", "t1", "t2"):
            assert await edge.message(records[task]) is None
            assert await edge.message(altered[task]) is None
            assert (await edge.record(jobs[task])).state is JobState.WAITING, "the keeper withdraws it"


def _without_signature(job: Job) -> Job:
    return restored(job).model_copy(update={"signed": None})


def _with_another_dag(job: Job) -> Job:
    assert job.signed is not None
    payload = json.loads(job.signed.payload)
    payload["work"]["workload"]["dag_rel_path"] = "other.py"
    return job.model_copy(update={"signed": job.signed.model_copy(update={"payload": json.dumps(payload)})})


async def test_jobs_wait_while_they_cannot_be_signed(centres: Centres, edge: Any, keys: SigningCentre) -> None:
    centre = centres()
    hidden = keys.key_file.rename(keys.key_file.with_suffix(".away"))
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        metrics = centre.executor._background.metrics._metrics
        await eventually(lambda: metrics.publish_failures.labels("")._value.get() > 0, what="a failed attempt")
        assert await edge.record(job) is None
        hidden.rename(keys.key_file)
        _, published_job = await appears(edge, job)
        assert published_job.signed is not None


async def test_with_optional_signatures_older_jobs_are_republished(
    centres: Centres, edge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing is switched on while jobs wait."""
    first = centres()
    with dag_run(1) as dag:
        record = await edge.appears(first.dispatch(dag)["t0"])
        keys = signing_centre(tmp_path / "keys")
        monkeypatch.setenv("AIRFLOW__EDGE_RELAY__SIGNING_KEY_FILE", str(keys.key_file))
        monkeypatch.setenv("AIRFLOW__EDGE_RELAY__SIGNED_JOBS", "optional")
        second = centres()
        entry = first.executor._background.dispatches.get(record.id)
        second.executor._portal.call(lambda: _add(second.executor._background, entry), 5)
        await edge.drop_message(record)
        await _seen_waiting(second, record.id)
        second.compare()
        assert await eventually(lambda: edge.message(record), what="a message again")


async def _add(background: Any, entry: Any) -> bool:
    background.adopt([], [entry])
    return True


async def _seen_waiting(centre: Any, *jobs: str) -> None:
    """The executor has seen the records, and is done with publishing."""
    background = centre.executor._background

    def seen() -> bool:
        entries = [background.dispatches.get(job) for job in jobs]
        return len(background.publisher) == 0 and all(e is not None and e.state is JobState.WAITING for e in entries)

    await eventually(seen, what="the executor has seen its records")


async def test_keys_are_not_retired_while_a_job_needs_them(
    centres: Centres, edge: Any, keys: SigningCentre, capsys: pytest.CaptureFixture[str]
) -> None:
    """`retire` looks at what is unfinished, as the NATS user `executor`."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await command("rotate")
        with pytest.raises(SystemExit, match="1 unfinished jobs .*" + job):
            await command("retire")
        await edge.start(job)
        await edge.finish(job)
        await command("retire")
        capsys.readouterr()
        await command("show")
        assert f"Key set 3, made {datetime.now(UTC):%F}" in (shown := capsys.readouterr().out)
        assert f"SHA256:{fingerprint(keys.keys[0])}" in shown
        await command("show", pem=True)
        assert read_public_keys(capsys.readouterr().out.encode()) == keys.keys
        assert len(keys.keys) == 1
        with pytest.raises(SystemExit, match="no older key"):
            await command("retire")


async def command(name: str, **flags: bool) -> None:
    """`airflow edge-relay signing-keys NAME`."""
    flags = {"force": False, "pem": False, **flags}
    await asyncio.to_thread(run, argparse.Namespace(subcommand=name, **flags))
