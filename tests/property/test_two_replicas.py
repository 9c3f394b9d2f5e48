"""The life of a job through two relay replicas on one real NATS, in any order of what workers and Airflow may do."""

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_broker.connection.errors import JetStreamError
from edge_broker.subjects import JOBS, job_subject
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState, Verdict
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import JobKind
from support.relay.agents import Agent, agent, both, publish
from support.relay.edge import Edge, running_edge

MAX_JOBS = 4
ACTIONS = st.tuples(
    st.sampled_from(
        [
            *["publish", "poll", "poll", "start", "start", "start twice", "steal", "finish", "give back"],
            *["release", "withdraw", "restart", "move"],
        ]
    ),
    st.integers(0, 1),  # which worker
    st.integers(0, 1),  # by which replica
    st.integers(0, 2**16),  # which job or grant, as far as there are some
)
REFUSALS = {
    ErrorCode.JOB_ENDED,
    ErrorCode.NOT_HOLDER,
    ErrorCode.WRONG_STATE,
    ErrorCode.FORBIDDEN,
    ErrorCode.RECEIPT_EXPIRED,
    ErrorCode.TAKEOVER_PENDING,
}


class World:
    """Two workers, two replicas, some jobs, and what the workers were told."""

    def __init__(self, edge: Edge, workers: list[Agent]) -> None:
        self.edge = edge
        self.workers = workers
        self.jobs: list[str] = []
        self.grants: list[tuple[int, dict[str, Any]]] = []
        self.started: dict[str, set[str]] = {}
        self.receipts: dict[tuple[str, str], str] = {}
        self.ended: dict[str, JobRecord] = {}

    async def act(self, action: str, worker: int, replica: int, pick: int) -> None:
        """Do it, and see that a refusal is one of the known ones."""
        acting = self.workers[worker]
        if action == "publish":
            if len(self.jobs) < MAX_JOBS:
                self.jobs.append((await publish(self.edge.broker)).id)
        elif action == "poll":
            reply = await acting.poll(replica=replica, poll_timeout_s=0.05, free=2)
            assert reply.status in {200, 204}, reply.body
            found = reply.json["grants"] if reply.status == 200 else []
            self.grants += [(worker, grant) for grant in found]
        elif action == "withdraw":
            if self.jobs:
                await self._withdraw(self.jobs[pick % len(self.jobs)])
        elif action in {"finish", "give back"}:
            if self.jobs:
                job = self.jobs[pick % len(self.jobs)]
                await self._finish(acting, job, replica, release=action == "give back")
        elif action == "move":
            if self.jobs:
                await self.edge.records.move_ended(self.jobs[pick % len(self.jobs)])
        elif action == "restart":
            self.workers[worker] = acting.again()
        elif self.grants:
            owner, grant = self.grants[pick % len(self.grants)]
            await self._with_grant(action, self.workers[owner], self.workers[1 - owner], grant, replica)

    async def _with_grant(self, action: str, owner: Agent, other: Agent, grant: dict[str, Any], replica: int) -> None:
        job = grant["job"]["id"]
        if action == "release":
            reply = await owner.release(grant, replica=replica, counted=False)
        elif action == "steal":
            reply = await other.start(grant, replica=replica)
            assert reply.code == ErrorCode.FORBIDDEN
        else:
            before = await self.edge.records.get(job)
            replicas = (0, 1) if action == "start twice" else (replica,)
            replies = await both([owner.start(grant, replica=one) for one in replicas])
            reply = replies[0]
            assert len({(one.status, one.code) for one in replies}) == 1, "a repeat gets the same answer"
            if reply.status < 300:
                assert before is not None
                assert before.state is not JobState.ENDED
                self.started.setdefault(job, set()).add(owner.name)
                if before.holder is None:
                    self.receipts[owner.name, job] = grant["receipt"]
        assert reply.status < 300 or reply.code in REFUSALS, reply.body

    async def _finish(self, acting: Agent, job: str, replica: int, *, release: bool) -> None:
        """Said twice at once, as by a load balancer."""
        before = await self.edge.records.get(job)
        assert before is not None
        receipt = self.receipts.get((acting.name, job))
        body = {"exit_code": 0, "release": release, "incarnation": acting.incarnation, "receipt": receipt}
        replies = await both([acting.finish(job, replica=one, **body) for one in (replica, 1 - replica)])
        assert len({(one.status, one.code) for one in replies}) == 1, "a repeat gets the same answer"
        if replies[0].status >= 300:
            assert replies[0].code in REFUSALS, replies[0].body
            return
        if before.holder is None or before.holder.worker != acting.name:
            assert receipt is not None, "only that it was given back before is no reason to refuse"
            return
        after = await self.edge.records.get(job)
        assert after is not None
        if after.state is JobState.WAITING:
            assert len(after.releases) == len(before.releases) + 1
            self.started.pop(job)
            if after.job is not None and after.parked is None:  # as the executor does, which watches records
                await self.edge.broker.store(
                    job_subject(None, "default", JobKind.TASK, job), after.job.model_dump_json().encode()
                )

    async def _withdraw(self, job: str) -> None:
        try:
            await self.edge.records.change(job, Withdraw("marked failed", datetime.now(UTC)))
        except EdgeError as error:
            raise AssertionError("a withdrawal is never refused while the record lives") from error

    async def check(self) -> None:
        """What holds at every moment."""
        for job in self.jobs:
            record = await self.edge.records.get(job)
            assert record is not None, "a record vanished"
            starters = self.started.get(job, set())
            assert len(starters) <= 1, "two workers were told that they hold one job"
            if record.holder is not None and starters:
                assert {record.holder.worker} == starters
            if record.state is JobState.WAITING and record.parked is None:
                assert await self._has_message(job), "a waiting job without a message is lost"
            if record.outcome is not None:
                assert record.outcome.verdict is not Verdict.SUCCEEDED, "nobody accepted a final state here"
                assert self.ended.setdefault(job, record) == record, "an ended record changed"

    async def _has_message(self, job: str) -> bool:
        try:
            await self.edge.broker.api(
                f"STREAM.MSG.GET.{JOBS}", {"last_by_subj": job_subject(None, "default", JobKind.TASK, job)}
            )
        except JetStreamError:
            return False
        return True


@pytest.mark.slow
@pytest.mark.timeout(180)
@settings(max_examples=6)
@given(st.lists(ACTIONS, min_size=10, max_size=40))
def test_one_holder_and_nothing_lost_through_two_replicas(actions: list[tuple[str, int, int, int]]) -> None:
    """Whichever replica a call comes through, a job has one holder, ended stays ended, and no waiting job is lost."""
    _play(actions)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@settings(max_examples=200)
@given(st.lists(ACTIONS, min_size=10, max_size=40))
def test_one_holder_and_nothing_lost_for_long(actions: list[tuple[str, int, int, int]]) -> None:
    """The same with many stories."""
    _play(actions)


def _play(actions: list[tuple[str, int, int, int]]) -> None:
    """Each story has servers and relays of its own."""

    async def scenario() -> None:
        with tempfile.TemporaryDirectory(prefix="edge-two-replicas-") as directory:
            async with running_edge(Path(directory), replicas=2) as edge:
                world = World(edge, [await agent(edge), await agent(edge, replica=1)])
                for action in [("publish", 0, 0, 0), *actions]:
                    await world.act(*action)
                    await world.check()

    asyncio.run(scenario())
