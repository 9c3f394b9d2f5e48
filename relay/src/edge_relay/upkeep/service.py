"""Looks after the submitted jobs: builds the parts, and runs their loops while there are such jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_broker.subjects import RELAY_BEATS, RELAY_DEMAND
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.metrics.fleet import Fleet
from edge_relay.metrics.replica import Metrics
from edge_relay.upkeep.expiry import Expiry
from edge_relay.upkeep.figures import SubmittedJobs, UpkeepFigures
from edge_relay.upkeep.holders import Holders
from edge_relay.upkeep.job_table import JobTable
from edge_relay.upkeep.message_repair import MessageRepair
from edge_relay.upkeep.order.start_rate import StartRate
from edge_relay.upkeep.order.turns import Turns
from edge_relay.upkeep.publisher import MessagePublisher
from edge_relay.upkeep.shares import is_first
from edge_relay.upkeep.submitted_job import HELD, SubmittedJob, rank_of
from edge_schemas.admin.desired import QUEUE_PREFIX
from edge_service import task_cleanup
from edge_upkeep.give_up import GiveUps
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder

AHEAD = 4
"""Messages more than free slots that each queue has at least, as with Airflow's jobs by default."""
AHEAD_S = 0.5
"""Or messages for the starts of this time, at the rate of the last second."""
OTHERS_AFTER_S = 1.0
CHECK_S = 1.0
CHECK_EMPTY_S = 30.0


class Upkeep:
    """Run `run()` in a task group. Every replica does this; none depends on another one.

    Attributes:
        jobs: The unfinished submitted jobs.
    """

    def __init__(
        self,
        broker: Broker,
        records: RecordStore,
        mirror: RecordMirror,
        fleet: Fleet,
        desired: DesiredState,
        *,
        audit: Audit,
        metrics: Metrics,
        replica: str,
    ) -> None:
        self._replica = replica
        self._broker = broker
        self._desired = desired
        self._mover = RecordMover(records)
        self.jobs = JobTable(self._mover)
        figures = UpkeepFigures(metrics)
        metrics.registry.register(SubmittedJobs(lambda: self.jobs.counts))
        self._demand = Demand()
        self._rate = StartRate()
        self._is_release_due = False
        self._order = QueueOrder(rank_of, self._demand, self.jobs.started, self._ahead, most=self._most)
        self._turns = Turns(self._order)
        self._publisher = MessagePublisher(broker, records, figures)
        self._repair = MessageRepair(broker, (mirror.complete, desired.complete), self._turns, self._publisher)
        self._expiry = Expiry(records, desired, figures)
        self._holders = Holders(broker, mirror, fleet)
        self._give_ups = GiveUps(self._holders, broker, records, audit, figures)
        self._demand.on_report(self._release_all)
        desired.on_change(self._desired_changed)
        self.jobs.on_change(self._changed)
        self.jobs.on_never_started(self._publisher.remove)
        mirror.watched.on_value(self.jobs.apply)

    async def run(self) -> None:
        """Look after the jobs until cancelled; do nothing while there are none."""
        while True:
            await self.jobs.present.wait()
            async with self._subscribed(), asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(self._publisher.run(), name="upkeep-publisher"),
                    group.create_task(self._repair.run(), name="upkeep-messages"),
                    group.create_task(self._expiry.run(), name="upkeep-expiry"),
                    group.create_task(self._end_delays(), name="upkeep-delays"),
                    group.create_task(self._give_ups.run(), name="upkeep-give-ups"),
                    group.create_task(self._mover.run(), name="upkeep-record-mover"),
                ]
                while True:
                    await asyncio.sleep(CHECK_EMPTY_S)
                    if self.jobs.clear_if_empty():
                        break
                await task_cleanup.cancel_and_wait(loops)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[None]:
        demand = await self._broker.subscribe(RELAY_DEMAND, self._demand.on_message)
        beats = await self._broker.subscribe(RELAY_BEATS, self._holders.on_relay_beat)
        try:
            yield
        finally:
            for number in (demand, beats):
                await self._broker.unsubscribe(number)

    async def _end_delays(self) -> None:
        """Also keep the clock of contact: it counts only while it is asked."""
        while True:
            self._turns.tick()
            self._holders.tick()
            self._release()
            pause_s = CHECK_S
            if (at := self._turns.next_at) is not None:
                pause_s = min(CHECK_S, max(0.01, (at - datetime.now(UTC)).total_seconds()))
            await asyncio.sleep(pause_s)

    def _changed(self, before: SubmittedJob | None, after: SubmittedJob | None) -> None:
        if before is not None and before.may_have_message and after is not None and after.state in HELD:
            self._rate.started(after.team, after.queue)
        self._turns.update(before, after)
        self._expiry.update(before, after)
        self._holders.update(before, after)
        if self._turns.unlisted:
            self._repair.kick.set()
        self._release()

    def _release(self) -> None:
        """Soon: of the changes that arrive together, each may make a job due, and one look at the queues finds all."""
        if not self._is_release_due:
            self._is_release_due = True
            asyncio.get_running_loop().call_soon(self._release_now)

    def _release_now(self) -> None:
        self._is_release_due = False
        self._publish(self._order.due())

    def _release_all(self) -> None:
        self._publish(self._order.due_at_all())

    def _publish(self, jobs: list[str]) -> None:
        replicas = self._holders.replicas if jobs else []
        for job in jobs:
            if is_first(self._replica, job, replicas):
                self._publisher.publish(job)
            else:
                asyncio.get_running_loop().call_later(OTHERS_AFTER_S, self._publish_if_sent, job)

    def _publish_if_sent(self, job: str) -> None:
        """The replica whose turn it was may be gone, or may not know yet that the job is due."""
        if self._turns.is_sent(job):
            self._publisher.publish(job)

    def _desired_changed(self, key: str) -> None:
        if len(self.jobs) and key.startswith(QUEUE_PREFIX):
            self._release_all()

    def _ahead(self, team: str | None, queue: str) -> int:
        return max(AHEAD, int(self._rate.per_s(team, queue) * AHEAD_S))

    def _most(self, team: str | None, queue: str) -> int | None:
        """A paused queue gets no messages: what is submitted meanwhile still gets its place in the order."""
        return 0 if self._desired.is_paused(team, queue) else self._desired.queue(team, queue).max_running
