"""What the OpenAPI document describes, and what it forbids, sent by a machine: the relay never answers with a 5xx."""

import asyncio
import copy
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge_broker.layout import ensure_consumer
from edge_relay.identity.receipts import Receipt, seal
from edge_schemas.openapi.document import openapi_document
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.polls import PROTOCOL
from edge_schemas.wire.workers import SecretKind, new_secret
from support.relay.bundles import make_bundle, publish_bundle
from support.relay.edge import Edge, Worker, running_edge
from support.relay.fake_gate import KEY, running_gate
from support.relay.jobs import make_job, payload_job
from support.relay.producers import producer

PROGRAM = Path(sys.executable).with_name("schemathesis")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
WORKERS = ("--include-tag", "workers", "--exclude-path", routes.ENROLL)
PRODUCERS = ("--include-tag", "producers")
OPERATORS = ("--include-tag", "operators", "--exclude-path", routes.ADMIN_CHANGES)
"""The stream of changes has no end."""
RUNNING_JOBS = 40
RUNNING_PAYLOADS = 20
MOST_OUTPUT = 20_000


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Polls are held for a moment only and as frequent as they come, and there is a gate that answers."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as gate,
        running_edge(
            tmp_path,
            gate_urls=(gate.url,),
            gate_key_file=secret,
            hold_s=0.01,
            polls_per_s=1000,
            producer_calls_per_s=1000,
        ) as running,
    ):
        await ensure_consumer(running.broker, None, "default", JobKind.TASK)
        yield running


def with_values(document: dict[str, Any], values: dict[str, list[str]]) -> dict[str, Any]:
    """The document with some path parameters given values that exist, and with the protocol that is served.

    Without them nearly every call would end at its first check.
    """
    changed = copy.deepcopy(document)
    for model in ("Poll", "EnrollRequest"):
        changed["components"]["schemas"][model]["properties"]["protocol"] = {"enum": [PROTOCOL]}
    for methods in changed["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and parameter["name"] in values:
                    known = {"enum": values[parameter["name"]]}
                    parameter["schema"] = {"anyOf": [known, parameter["schema"]]}
    return changed


async def fuzz(
    edge: Edge,
    folder: Path,
    document: dict[str, Any],
    url: str,
    secret: str,
    *selection: str,
    phases: str,
    examples: int = 50,
) -> None:
    """One run in a process of its own; its report if it found something."""
    file = folder / "openapi.json"
    file.write_bytes(orjson.dumps(document))
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "NO_COLOR": "1", "REQUESTS_CA_BUNDLE": str(edge.ca)}
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "run", str(file), "--url", url, "--tls-verify", str(edge.ca), "--checks", CHECKS),
        *("--phases", phases, "--max-examples", str(examples), "--seed", "1", "--request-timeout", "10"),
        *("--suppress-health-check", "all", "--warnings", "off", "-H", f"Authorization: Bearer {secret}", *selection),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-MOST_OUTPUT:]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_relay_has_an_answer_to_everything_a_worker_sends(edge: Edge, tmp_path: Path) -> None:
    worker, document = await known(edge)
    await fuzz(edge, tmp_path, document, edge.relays[0].workers_url, worker.secret, *WORKERS, phases="coverage")
    await still_serves(edge)


@pytest.mark.timeout(120)
async def test_the_relay_has_an_answer_to_what_an_operator_sends(edge: Edge, tmp_path: Path) -> None:
    """A few calls of each kind; the next test sends them all."""
    _, document = await known(edge)
    url = edge.relays[0].operators_url
    await fuzz(edge, tmp_path, document, url, edge.access_token, *OPERATORS, phases="fuzzing", examples=5)
    await still_serves(edge)


@pytest.mark.timeout(120)
async def test_the_relay_has_an_answer_to_what_a_producer_sends(edge: Edge, tmp_path: Path) -> None:
    """A few calls of each kind; the last test sends them all."""
    document, secret = await known_to_a_producer(edge)
    url = edge.relays[0].workers_url
    await fuzz(edge, tmp_path, document, url, secret, *PRODUCERS, phases="fuzzing", examples=8)
    await still_serves(edge)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_the_relay_has_an_answer_to_everything(edge: Edge, tmp_path: Path) -> None:
    relay = edge.relays[0]
    worker, document = await known(edge)
    # Operators revoke and cancel: they have a worker of their own.
    _, for_operators = await known(edge)
    enrol = ("--include-path", routes.ENROLL)
    token = await edge.token(uses=5000)
    for_producers, of_producer = await known_to_a_producer(edge)
    for name in ("enrolment", "workers", "operators", "producers"):
        (tmp_path / name).mkdir()
    run = partial(fuzz, edge, phases="coverage,fuzzing")
    await asyncio.gather(
        run(tmp_path / "enrolment", document, relay.workers_url, token, *enrol),
        run(tmp_path / "workers", document, relay.workers_url, worker.secret, *WORKERS),
        run(tmp_path / "producers", for_producers, relay.workers_url, of_producer, *PRODUCERS),
        run(tmp_path / "operators", for_operators, relay.operators_url, edge.access_token, *OPERATORS),
    )
    await still_serves(edge)


async def known(edge: Edge) -> tuple[Worker, dict[str, Any]]:
    """A worker with running tasks and payloads and a waiting task, and the document with their names in it."""
    worker = await edge.worker()
    bundle = make_bundle({"a.py": b"x = 1"})
    await publish_bundle(edge.broker, bundle)
    made = [bundle.run_by(make_job()) for _ in range(RUNNING_JOBS)]
    payloads = [payload_job() for _ in range(RUNNING_PAYLOADS)]
    jobs = [(await edge.job(worker, job)).id for job in (*made, *payloads)] + [(await edge.job()).id]
    values = {"job": jobs, "worker": [worker.name], "path": ["variables/x", "a/b"]}
    document = with_values(openapi_document(), values | {"bundle": [bundle.name], "digest": [bundle.digest]})
    receipts = [await receipt_of(edge, worker, job) for job in payloads]
    for model in ("StartRequest", "FinishRequest", "ReleaseRequest"):
        fields = document["components"]["schemas"][model]["properties"]
        fields["receipt"] = {"anyOf": [{"enum": receipts}, fields["receipt"]]}
    wanted = document["components"]["schemas"]["PiecesRequest"]["properties"]
    wanted["job"] = {"enum": jobs}
    wanted["pieces"]["items"] = {"anyOf": [{"enum": list(bundle.frames)}, wanted["pieces"]["items"]]}
    return worker, document


async def receipt_of(edge: Edge, worker: Worker, job: Job) -> str:
    """A receipt of a grant of this job, as a poll would have brought it."""
    key = await edge.relays[0].parts.identity.receipt_key.get()
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    return seal(key, Receipt(f"$JS.ACK.EDGE_JOBS.default.1.1.1.1.{job.id}", "default", job.id, worker.name, expires_at))


async def known_to_a_producer(edge: Edge) -> tuple[dict[str, Any], str]:
    """The document with the names of submitted jobs in it, waits that are short, and a producer's token."""
    shop = await producer(edge)
    jobs = [await shop.submitted(labels={"a": "b"}) for _ in range(5)]
    await shop.cancel(jobs[0])
    await edge.records.move_ended(jobs[0])
    document = with_values(openapi_document(), {"job": jobs, "queue": ["default"]})
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "wait":
                    parameter["schema"] = {"type": "number", "minimum": 0, "maximum": 0.05}
    return document, shop.secret


async def still_serves(edge: Edge) -> None:
    """After all that a worker enrols, and its job's log is taken."""
    secret = new_secret(SecretKind.WORKER)
    reply = await edge.enroll(await edge.token(), secret)
    worker = Worker(reply.json["worker"], secret)
    job = await edge.job(worker)
    assert (await edge.put_log(job, worker, 0, b"x")).json == {"offset": 1}
    assert (await edge.call("GET", routes.READYZ)).status == 200
