"""The answer for a task instance that has no unfinished job: a keeper's findings and the relay's own facts together."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from aiohttp import web

from edge_bridge.keeper.gate.centre import CentreView
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.server import build_app
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.why.task_answers import TaskAnswers
from edge_broker.bucket import Bucket
from edge_schemas.admin.access import AccessScope, AccessTokenEntry
from edge_schemas.admin.why import CauseCode, WhyAnswer
from edge_schemas.life.events import Withdraw
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.why.wording import cause
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from edge_service.body_memory import BodyMemory
from support.airflow.keeper import KEY
from support.nats.server import eventually
from support.relay.edge import Edge, running_edge
from support.relay.jobs import make_job
from support.signing.keys import UNSIGNED

C = CauseCode


@dataclass
class Findings:
    """A keeper's answers in place of Airflow's database; the gate around them is a real one."""

    found: TaskInstanceFindings | EdgeError
    asked: list[TaskQuery] = field(default_factory=list)

    async def findings(self, query: TaskQuery) -> TaskInstanceFindings:
        self.asked.append(query)
        if isinstance(self.found, EdgeError):
            raise self.found
        return self.found


@asynccontextmanager
async def with_gate(tmp_path: Path, found: Findings) -> AsyncIterator[Edge]:
    app = build_app(
        KEY,
        cast("PassThrough", None),
        CentreView(None, UNSIGNED),
        dict,
        metrics=KeeperMetrics(),
        memory=BodyMemory(1 << 20, 1 << 20, lambda _: None),
        why=cast("TaskAnswers", found),
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with running_edge(tmp_path, gate_urls=(url,), gate_key_file=secret) as edge:
            yield edge
    finally:
        await runner.cleanup()


async def ask(edge: Edge, token: str | None = None, **query: Any) -> Any:
    """The reply, within two seconds."""
    wanted = {"dag": "d", "run": "r", "task": "t", **query}
    path = f"{routes.ADMIN_WHY}?{'&'.join(f'{name}={quote(str(value))}' for name, value in wanted.items())}"
    began = time.monotonic()
    reply = await edge.call("GET", path, token or edge.access_token, operators=True)
    assert time.monotonic() - began < 2
    return reply


async def answer(edge: Edge, **query: Any) -> WhyAnswer:
    reply = await ask(edge, **query)
    assert reply.status == 200, reply.body
    return WhyAnswer.model_validate_json(reply.body)


async def test_what_airflow_holds_back(tmp_path: Path) -> None:
    pool = cause(C.NOT_QUEUED_POOL, "Pool p is full")
    found = Findings(TaskInstanceFindings(queue="default", state="scheduled", try_number=2, causes=(pool,)))
    async with with_gate(tmp_path, found) as edge:
        why = await answer(edge, dag="ä b", run="manual__2026-11-29T00:00:00+00:00", map_index=3)
        assert found.asked == [TaskQuery(dag="ä b", run="manual__2026-11-29T00:00:00+00:00", task="t", map_index=3)]
        assert why.causes == (pool,)
        assert (why.job, why.queue, why.airflow_state) == (None, "default", "scheduled")
        assert why.task == "ä b.t[3], run manual__2026-11-29T00:00:00+00:00, try 2"
        token = new_secret(SecretKind.ACCESS)
        few = AccessTokenEntry(name="few", scope=AccessScope(queues=("other",)), created_at=datetime.now(UTC))
        await Bucket(edge.broker, "edge_access").put(f"access.{hash_secret(token)}", few.model_dump_json().encode())
        assert (await ask(edge, token)).code == "not_found"


async def test_a_dispatch_that_is_not_published_that_waits_and_that_has_ended(tmp_path: Path) -> None:
    job = make_job()
    queued = TaskInstanceFindings(queue="default", state="queued", try_number=1, dispatch=job.id)
    found = Findings(queued)
    async with with_gate(tmp_path, found) as edge:
        why = await answer(edge)
        assert [one.code for one in why.causes] == [C.NOT_PUBLISHED]
        assert f"queued it as job {job.id}, and its executor has not published it yet" in why.causes[0].text
        version = cause(C.BUNDLE_NOT_PUBLISHED, "The executor waits until version c0ffee is published")
        found.found = queued.model_copy(update={"causes": (version,)})
        assert (await answer(edge)).causes == (version,)
        await edge.job(job=job)

        async def is_known() -> bool:
            return [one.code for one in (await answer(edge)).causes] == [C.NO_WORKER]

        await eventually(is_known, what="the record")
        number = len(found.asked)
        assert (await answer(edge)).job == job.id
        assert len(found.asked) == number, "an unfinished job is found without a keeper"
        await edge.records.change(job.id, Withdraw("gone", datetime.now(UTC)))

        async def has_ended() -> bool:
            why = await answer(edge)
            return why.causes[0].code is C.ENDED and why.airflow_state == "queued"

        await eventually(has_ended, what="the end")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EdgeError(ErrorCode.NOT_FOUND, "Airflow has no such task instance"), "not_found"),
        (EdgeError(ErrorCode.GATE_UNAVAILABLE, "Airflow's database does not answer the keeper"), "gate_unavailable"),
        (EdgeError(ErrorCode.INTERNAL), "gate_unavailable"),
    ],
)
async def test_a_keeper_that_can_not_answer(tmp_path: Path, error: EdgeError, code: str) -> None:
    async with with_gate(tmp_path, Findings(error)) as edge:
        reply = await ask(edge)
        assert reply.code == code
        assert (error.detail or "a keeper could not answer") in reply.json["detail"]
