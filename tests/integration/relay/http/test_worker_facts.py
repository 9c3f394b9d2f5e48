"""`GET /v1/worker`: what a credential is good for, told without a trace."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_broker.bucket import Bucket
from edge_broker.subjects import WORKERS_BUCKET
from edge_schemas.gate.centre import CentreFacts, WorkerFacts
from edge_schemas.wire import routes
from support.relay.edge import Edge, running_edge
from support.relay.fake_gate import KEY, running_gate

FACTS = CentreFacts(airflow_version="3.3.2", python_version="3.12.1", runtime_lock="apache-airflow==3.3.2\n")


async def test_a_worker_is_told_who_it_is_and_what_its_runtime_must_match(tmp_path: Path) -> None:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate, running_edge(tmp_path, gate_urls=(gate.url,), gate_key_file=secret) as edge:
        gate.body = FACTS.model_dump_json().encode()
        worker = await edge.worker(site="plant-7", queue="gpu")
        reply = await edge.call("GET", routes.WORKER, worker.secret)
        assert reply.status == 200
        facts = WorkerFacts.model_validate_json(reply.body)
        assert (facts.worker, facts.site, facts.team, facts.queues) == (worker.name, "plant-7", None, ("gpu",))
        assert facts.protocols == (1,)
        assert abs(facts.now - datetime.now(UTC)) < timedelta(seconds=30)
        assert facts.centre == FACTS
        [asked] = gate.asked_for_centre
        assert (asked.method, asked.target, asked.worker) == ("GET", routes.GATE_CENTRE, "")


async def test_it_leaves_no_trace(edge: Edge) -> None:
    """A doctor may ask next to a running agent: it is no contact, and supersedes no poll. No keeper: no centre."""
    worker = await edge.worker()
    reply = await edge.call("GET", routes.WORKER, worker.secret)
    assert reply.status == 200
    assert WorkerFacts.model_validate_json(reply.body).centre is None
    assert (await Bucket(edge.broker, WORKERS_BUCKET).get(worker.name)).value is None


async def test_a_revoked_worker_is_told_so(edge: Edge) -> None:
    worker = await edge.worker()
    await edge.act_on_worker(worker.name, "revoke")
    reply = await edge.call("GET", routes.WORKER, worker.secret)
    assert (reply.status, reply.code) == (401, "credential_revoked")
