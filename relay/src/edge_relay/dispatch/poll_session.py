"""One parked poll until its answer: the directives are computed again each time that something wakes the poll."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch import directives
from edge_relay.dispatch.directives import NOTHING, Directives
from edge_relay.dispatch.grants import Granter
from edge_relay.dispatch.poll_ends import PollEnds
from edge_relay.dispatch.polls import ParkedPoll, ParkedPolls
from edge_relay.dispatch.state.poll_state import PollState
from edge_relay.dispatch.state.reads import StateReads
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.gate.centre import Centre
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.principals import Principal
from edge_relay.identity.receipts import ReceiptKey, grant_id
from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.unstarted_grants import UnstartedGrants
from edge_relay.metrics.replica import Metrics
from edge_relay.pulls.deliveries import Delivery
from edge_relay.pulls.dispatcher_pool import DispatcherPool
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life import agents
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.polls import Grant, PollAnswer
from edge_schemas.wire.worker_entry import WorkerEntry

log = structlog.get_logger(__name__)

LATE_READS_S = 2.0
"""A poll whose time is over still waits so long for reads under way: a poll that does not wait may bring directives."""


@dataclass(frozen=True, slots=True)
class PollParts:
    """The parts of the relay that a poll needs while it waits and when it is answered."""

    lifecycle: Lifecycle
    polls: ParkedPolls
    ends: PollEnds
    dispatchers: DispatcherPool
    credentials: Credentials
    desired: DesiredState
    receipt_key: ReceiptKey
    centre: Centre
    broker: Broker
    records: RecordStore
    mirror: RecordMirror
    reads: StateReads
    workers: WorkerStore
    unstarted: UnstartedGrants
    metrics: Metrics


Send = Callable[[PollAnswer | None], Awaitable[None]]
"""Writes the answer to the worker; None is an answer without content. Raises if the connection is gone."""


class PollSession:
    """A worker's poll and its answer.

    Args:
        parts: What it reads and changes.
        parked: The poll.
        entry: The worker's, after the poll arrived.
        timeout_s: How long the poll may wait.
    """

    def __init__(self, parts: PollParts, parked: ParkedPoll, entry: WorkerEntry, timeout_s: float) -> None:
        self._parts = parts
        self._parked = parked
        self._state = PollState(parts.mirror, parts.reads, parked, entry)
        self._granter = Granter(parts.broker, parts.records, parts.receipt_key, parts.metrics, parked)
        self._centre_airflow: str | None = None
        self._is_over = self._only_time_is_over = False
        self._deadline = parts.ends.add(self._end, timeout_s)

    async def answer(self, send: Send) -> None:
        """Wait, then answer. Jobs whose grants could not be sent return to the queue."""
        try:
            found = await self._wait()
        finally:
            self._state.close()
            self._parts.ends.remove(self._end, self._deadline)
        delivered = self._parked.demand.close()
        try:
            is_known = not delivered or await self._parts.desired.settled()
            principal = self._parts.credentials.current(self._parked.secret_hash)
            await self._granter.keep_usable(delivered, self._queues(principal) if is_known else ())
            grants = [await self._granter.grant(delivery, self._centre_airflow) for delivery in delivered]
            await send(_answer(grants, found))
        except BaseException:
            await self.return_to_queue(delivered)
            raise
        self._record_sent(delivered, found)
        self._granter.measure(delivered)
        if not delivered and not found:
            self._parts.workers.answered_empty(self._parked.worker, self._parked.agent.arrival)

    async def return_to_queue(self, unused: Sequence[Delivery]) -> None:
        """Make these jobs available to another poll at once."""
        await self._granter.return_to_queue(unused)

    async def _wait(self) -> Directives:
        """Wait until there is something to send; returns what is to be sent besides grants.

        Raises:
            EdgeError: `superseded`, `draining`, `credential_revoked`.
        """
        parked = self._parked
        while True:
            parked.wake.clear()
            principal = self._check()
            await self._refresh_centre()
            self._state.refresh()
            self._enlist(principal)
            found = directives.directives(
                parked.worker,
                parked.poll,
                self._state.records,
                principal.settings,
                conflict=self._state.conflict(),
                required_airflow=parked.demand.required_airflow,
            )
            repeat_at = self._parts.polls.repeat_at(parked.worker, found.fingerprint) if found else math.inf
            now = self._now()
            if parked.demand.taken or repeat_at <= now:
                return found
            ends_at = self._deadline if self._state.is_complete else self._deadline + LATE_READS_S
            if now >= ends_at:
                return NOTHING
            await self._pause(min(ends_at, repeat_at))
            if self._only_time_is_over and not found and self._state.is_complete:
                return NOTHING

    async def _pause(self, until: float) -> None:
        """Wait until something wakes the poll, as `PollEnds` does at the end of its time; not longer than `until`."""
        self._only_time_is_over = False
        timer = None
        if until != self._deadline or self._is_over:
            timer = asyncio.get_running_loop().call_at(until, self._parked.wake.set)
        try:
            await self._parked.wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _end(self) -> None:
        """Its time is over. If nothing else has woken the poll, there is nothing new to compute."""
        self._is_over = True
        self._only_time_is_over = not self._parked.wake.is_set()
        self._parked.wake.set()

    async def _refresh_centre(self) -> None:
        """Compare the runtime with the centre's current Airflow: a job may have waited through an upgrade."""
        demand, runtime = self._parked.demand, self._parked.poll.versions.airflow
        if demand.required_airflow is None:
            return
        facts = await self._parts.centre.facts()
        if facts is not None and runtime_mismatch(runtime, facts.airflow_version) is None:
            self._centre_airflow = facts.airflow_version
            demand.clear_runtime_mismatch()

    def _enlist(self, principal: Principal) -> None:
        """Wait for jobs of the queues that this agent may serve now."""
        self._parts.dispatchers.enlist(self._parked.demand, self._queues(principal))

    def _queues(self, principal: Principal) -> tuple[str, ...]:
        """Those that this agent may serve: none while another agent uses its credential."""
        return () if self._state.conflict() else principal.active_queues

    def _check(self) -> Principal:
        """The worker, if this poll may continue to wait."""
        self._parts.lifecycle.check()
        if self._parked.superseded_by is not None:
            raise agents.superseded(by=self._parked.superseded_by)
        principal = self._parts.credentials.current(self._parked.secret_hash)
        self._parked.queues = principal.queues
        return principal

    def _record_sent(self, granted: Sequence[Delivery], found: Directives) -> None:
        if found:
            self._parts.polls.record_sent(self._parked.worker, found.fingerprint, self._now())
        if found.required_airflow is not None:
            log.warning("runtime_too_new", runtime=self._parked.poll.versions.airflow, centre=found.required_airflow)
        for delivery in granted:
            self._parts.unstarted.granted(self._parked.worker, delivery.job.id, grant_id(delivery.ack_subject))
            log.info("job_granted", job=delivery.job.id, queue=delivery.job.queue)
        for directive in found.stop:
            log.info("stop_sent", job=directive.job, reason=directive.reason, drop=directive.drop)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _answer(grants: Sequence[Grant], found: Directives) -> PollAnswer | None:
    if not grants and not found:
        return None
    return PollAnswer(
        grants=tuple(grants),
        stop=found.stop,
        settings=found.settings,
        conflict=found.conflict,
        conflict_resolved=found.conflict_resolved,
        required_airflow=found.required_airflow,
    )
