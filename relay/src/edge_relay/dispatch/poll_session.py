"""One parked poll until its answer: what it is told is computed anew each time that something wakes it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.message import ack, nak
from edge_broker.records import RecordStore
from edge_relay.dispatch import directives
from edge_relay.dispatch.deliveries import Delivery
from edge_relay.dispatch.directives import Directives
from edge_relay.dispatch.dispatchers import Dispatchers
from edge_relay.dispatch.polls import ParkedPoll, ParkedPolls
from edge_relay.gate.centre import Centre
from edge_relay.identity.credentials import Credentials, Principal
from edge_relay.identity.receipts import Receipt, ReceiptKey, seal
from edge_relay.lifecycle import Lifecycle
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life import agents
from edge_schemas.life.model import JobRecord
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.jobs import Job, TaskWork
from edge_schemas.wire.polls import GRANT_WAIT_S, Grant, PollAnswer
from edge_schemas.wire.worker_entry import CredentialConflict, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase

log = structlog.get_logger(__name__)

LOOK_S = 2.0
"""How long a look at the state may keep a poll from noticing anything else."""
LOOK_AGAIN_S = 1.0
RECORDS_AT_ONCE = 16
LEFTOVER_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class PollParts:
    """The parts of the relay that a poll needs while it waits and when it is answered."""

    lifecycle: Lifecycle
    polls: ParkedPolls
    dispatchers: Dispatchers
    credentials: Credentials
    receipt_key: ReceiptKey
    centre: Centre
    broker: Broker
    records: RecordStore
    workers: WorkerStore
    metrics: Metrics


Send = Callable[[PollAnswer | None], Awaitable[None]]
"""Writes the answer to the worker; None is an answer without content. Raises if the connection is gone."""


class PollSession:
    """A worker's poll and whatever may be told to it.

    Args:
        parts: What it reads and changes.
        parked: The poll.
        entry: The worker's, after the poll arrived.
        poll_timeout_s: How long the poll may wait.
    """

    def __init__(self, parts: PollParts, parked: ParkedPoll, entry: WorkerEntry, poll_timeout_s: float) -> None:
        self._parts = parts
        self._parked = parked
        self._entry = entry
        self._records: dict[str, JobRecord | None] = {}
        self._centre_airflow: str | None = None
        self._deadline = self._now() + poll_timeout_s

    async def answer(self, send: Send) -> None:
        """Wait, then answer. Grants that could not be sent go back to the queue."""
        said = await self._wait()
        granted = self._parked.demand.close()
        try:
            grants = [await self._grant(delivery) for delivery in await self._usable(granted)]
            await send(_answer(grants, said))
        except BaseException:
            await self.give_back(granted)
            raise
        self._account(grants, said)
        self._measure(granted)

    async def give_back(self, unused: Sequence[Delivery]) -> None:
        """Let another poll have these at once."""
        for delivery in unused:
            self._parts.metrics.returns.labels("poll_gone").inc()
            await nak(self._parts.broker, delivery.ack_subject)

    async def _wait(self) -> Directives:
        """Until there is something to say; what besides grants.

        Raises:
            EdgeError: `superseded`, `draining`, `credential_revoked`.
        """
        parked = self._parked
        while True:
            parked.wake.clear()
            principal = self._check()
            await self._ask_centre()
            self._enlist(principal)
            look_again = math.inf if await self._look() else self._now() + LOOK_AGAIN_S
            self._enlist(principal)
            said = directives.directives(
                parked.worker,
                parked.poll,
                self._records,
                principal.settings,
                conflict=self._conflict(),
                required_airflow=parked.demand.required_airflow,
            )
            repeat_at = self._parts.polls.repeat_at(parked.worker, said.fingerprint) if said else math.inf
            if parked.demand.taken or repeat_at <= self._now():
                return said
            if self._now() >= self._deadline:
                return Directives()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._deadline, repeat_at, look_again)):
                    await parked.wake.wait()

    async def _ask_centre(self) -> None:
        """A job may have waited longer than the Airflow that published it: what counts is what the centre has now."""
        demand, runtime = self._parked.demand, self._parked.poll.versions.airflow
        if demand.required_airflow is None:
            return
        facts = await self._parts.centre.facts()
        if facts is not None and runtime_mismatch(runtime, facts.airflow_version) is None:
            self._centre_airflow = facts.airflow_version
            demand.clear_runtime_mismatch()

    def _enlist(self, principal: Principal) -> None:
        """Wait for jobs of the queues that this agent may serve now."""
        consumers = () if self._conflict() else principal.consumers
        self._parts.dispatchers.enlist(self._parked.demand, consumers)

    def _conflict(self) -> CredentialConflict | None:
        """What keeps this agent from getting jobs, by what was last seen."""
        return None if agents.gets_jobs(self._entry, self._parked.agent) else self._entry.conflict

    def _check(self) -> Principal:
        """Whether this poll may go on waiting, and as whom."""
        self._parts.lifecycle.check()
        if self._parked.superseded_by is not None:
            raise agents.superseded(by=self._parked.superseded_by)
        return self._parts.credentials.current(self._parked.secret_hash)

    async def _look(self) -> bool:
        """Read the state that concerns this poll, if it may have changed; False if that was not possible."""
        parked = self._parked
        if not parked.look:
            return True
        noticed, parked.look, parked.noticed = parked.noticed, False, False
        try:
            async with asyncio.timeout(LOOK_S):
                if noticed:
                    await self._check_arrival()
                await self._read_records()
        except (BrokerUnavailable, TimeoutError) as error:
            log.debug("poll_look_failed", error=repr(error))
            parked.look = True
            parked.noticed = noticed
            return False
        return True

    async def _check_arrival(self) -> None:
        entry = await self._parts.workers.get(self._parked.worker)
        if entry is None:
            return
        current = agents.current_arrival(entry, self._parked.agent)
        if current.arrival != self._parked.agent.arrival:
            raise agents.superseded(by=current)
        self._entry = entry

    async def _read_records(self) -> None:
        jobs = [job.id for job in self._parked.poll.jobs]
        store = self._parts.records
        for first in range(0, len(jobs), RECORDS_AT_ONCE):
            some = jobs[first : first + RECORDS_AT_ONCE]
            self._records.update(zip(some, await asyncio.gather(*map(store.get, some)), strict=True))

    async def _usable(self, granted: list[Delivery]) -> list[Delivery]:
        """Without what this worker may not, or need not, be offered; that is settled here."""
        principal = self._parts.credentials.current(self._parked.secret_hash)
        allowed = () if self._conflict() else principal.consumers
        busy = {job.id for job in self._parked.poll.jobs if job.phase is not JobPhase.GRANTED}
        broker, returns = self._parts.broker, self._parts.metrics.returns
        for delivery in list(granted):
            if delivery.consumer not in allowed:
                returns.labels("not_served").inc()
                await nak(broker, delivery.ack_subject)
            elif delivery.job.id not in busy:
                continue
            elif directives.is_leftover(self._parked.worker, delivery.job.id, self._records):
                await ack(broker, delivery.ack_subject)
            else:
                returns.labels("already_held").inc()
                await nak(broker, delivery.ack_subject, delay_s=LEFTOVER_DELAY_S)
            granted.remove(delivery)
        return granted

    async def _grant(self, delivery: Delivery) -> Grant:
        key = await self._parts.receipt_key.get()
        expires_at = delivery.arrived_at + timedelta(seconds=GRANT_WAIT_S)
        receipt = Receipt(delivery.ack_subject, delivery.consumer, delivery.job.id, self._parked.worker, expires_at)
        return Grant(job=self._job(delivery), receipt=seal(key, receipt), expires_at=expires_at)

    def _job(self, delivery: Delivery) -> Job:
        """As the worker is to judge it: see `_ask_centre`."""
        job = delivery.job
        if self._centre_airflow is None or not isinstance(job.work, TaskWork):
            return job
        return job.model_copy(update={"work": job.work.model_copy(update={"airflow_version": self._centre_airflow})})

    def _account(self, grants: Sequence[Grant], said: Directives) -> None:
        if said:
            self._parts.polls.told(self._parked.worker, said.fingerprint, self._now())
        if said.required_airflow is not None:
            log.warning("runtime_too_new", runtime=self._parked.poll.versions.airflow, centre=said.required_airflow)
        for grant in grants:
            log.info("job_granted", job=grant.job.id, queue=grant.job.queue)
        for directive in said.stop:
            log.info("stop_told", job=directive.job, reason=directive.reason, drop=directive.drop)

    def _measure(self, granted: Sequence[Delivery]) -> None:
        metrics = self._parts.metrics
        for delivery in granted:
            queue = queue_of(delivery.job)
            metrics.grants.labels(*queue).inc()
            metrics.queue_wait_seconds.labels(*queue).observe(max(0.0, time.time() - delivery.stored_at))
            metrics.hand_out_seconds.observe(time.monotonic() - delivery.arrived)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _answer(grants: Sequence[Grant], said: Directives) -> PollAnswer | None:
    if not grants and not said:
        return None
    return PollAnswer(
        grants=tuple(grants),
        stop=said.stop,
        settings=said.settings,
        conflict=said.conflict,
        conflict_resolved=said.conflict_resolved,
        required_airflow=said.required_airflow,
    )
