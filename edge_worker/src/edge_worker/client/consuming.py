"""One run of a consumer: the loops of the agent, with payloads and their handlers in the place of processes."""

import asyncio
import platform
from collections.abc import Coroutine
from dataclasses import dataclass, field

from edge_schemas.wire.job_calls import FinishRequest, ReleaseRequest, StartRequest
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.polls import Grant, StopDirective
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerSettings
from edge_worker.agent.draining import DELIVERY_GRACE_S, Draining
from edge_worker.agent.link_probe import LinkProbe
from edge_worker.agent.orders import Orders
from edge_worker.agent.poll_loop import PollLoop, Report
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.agent.secret_rotation import SecretRotation
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.client.contact import ContactWatch
from edge_worker.client.ending import Again, Ending, Finished, Stop, StopKind
from edge_worker.client.handling import Handler, Handling
from edge_worker.client.job_log import JobLog
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.machine.health import AgentHealth, worker_versions
from edge_worker.relay.call_result import Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final
from edge_worker.settings import Settings
from edge_worker.state.kept_identity import KeptIdentity
from edge_worker.state.state import StateDir

log = EventLog("edge_worker.client.consuming")


@dataclass
class Payloads:
    """Runs the handlers; the `Runner` of the agent's loops.

    Attributes:
        incarnation: Of this run.
        group: Owns the tasks of all jobs.
    """

    client: RelayClient
    link: Link
    table: JobRegistry[Handling]
    handler: Handler
    incarnation: int
    group: asyncio.TaskGroup
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)

    def accept(self, grant: Grant) -> None:
        """Handles a granted payload, or releases it if no slot is free."""
        known = self.table.get(grant.job.id)
        if known is not None and known.phase is not JobPhase.FINISHING:
            # Granted again because the start has not arrived yet.
            known.receipt = grant.receipt
            return
        one = Handling(grant)
        is_payload = grant.job.kind is JobKind.PAYLOAD
        refusal = self.table.refusal() if is_payload else f"this consumer accepts no {grant.job.kind}"
        if refusal is None:
            self.table.add(one)
            self._own(self._work(one), one)
        else:
            request = ReleaseRequest(receipt=one.receipt, reason=refusal, counted=not is_payload)
            self._own(self._release(one, request), one)

    def stop(self, directive: StopDirective) -> None:
        """Ends a handler whose job is not wanted, or not held by this consumer."""
        if (one := self.table.get(directive.job)) is not None:
            one.stop(Stop(StopKind.DROPPED if directive.drop else StopKind.WITHDRAWN, directive.reason))

    @property
    def busy(self) -> int:
        """How many jobs are not over."""
        return len(self._tasks)

    async def until_idle(self) -> None:
        """Waits until none is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def drain(self, why: str) -> None:
        """Releases what was not started."""
        for one in self.table:
            if one.phase is JobPhase.GRANTED:
                one.stop(Stop(StopKind.RELEASED, why))

    def stop_all(self, why: str) -> None:
        """Ends every handler."""
        for one in self.table:
            one.stop(Stop(StopKind.RELEASED, why))

    def log_to_tasks(self, text: str) -> None:
        """A handler is told by being stopped."""

    def close_all(self) -> None:
        """Abandons what is left: the relay gives these jobs up once this consumer polls without them, or is silent."""
        for task in self._tasks:
            task.cancel()

    def _own(self, work: Coroutine[None, None, object], one: Handling) -> None:
        task = self.group.create_task(work, name=f"payload-{one.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, one: Handling) -> None:
        try:
            await until_final(lambda: self._start(one), pause=self.link.pause)
        except Refused as error:
            log.info("payload_not_started", job=one.id, code=error.code, reason=str(error))
            self.table.forget(one)
            return
        one.phase = JobPhase.RUNNING
        self.table.changed()
        log.info("payload_started", job=one.id, queue=one.job.queue, attempt=one.job.attempt)
        ending = await self._handle(one)
        one.phase = JobPhase.FINISHING
        self.table.changed()
        try:
            await self._report(one, ending)
        except Refused as error:
            # The job was given up, or another consumer has it: what this handler did was not the last word.
            log.warning("payload_not_reported", job=one.id, code=error.code, reason=str(error))
        self.table.forget(one)

    async def _start(self, one: Handling) -> None:
        await self.client.start(one.id, StartRequest(receipt=one.receipt, incarnation=self.incarnation))

    async def _handle(self, one: Handling) -> Ending | None:
        lines = JobLog(self.client, self.link, one.id)
        upload = asyncio.create_task(lines.run(), name=f"payload-log-{one.id}")
        try:
            ending = await one.handle(self.handler, lines.append)
            lines.close()
            await upload
        finally:
            upload.cancel()
        return ending

    async def _report(self, one: Handling, ending: Ending | None) -> None:
        match ending:
            case Finished():
                await self._finish(one, ending)
            case Again():
                request = ReleaseRequest(receipt=one.receipt, reason=ending.reason, delay_s=ending.delay_s)
                if not await self._release(one, request):
                    # The job was cancelled in the meantime.
                    await self._finish(one, Finished(reason=ending.reason))

    async def _finish(self, one: Handling, ending: Finished) -> None:
        request = FinishRequest(
            incarnation=self.incarnation,
            receipt=one.receipt,
            exit_code=ending.exit_code,
            reason=ending.reason,
            release=ending.release,
            result=ending.result,
        )
        await until_final(lambda: self.client.finish(one.id, request), pause=self.link.pause)

    async def _release(self, one: Handling, request: ReleaseRequest) -> bool:
        """Whether the relay has accepted the release."""
        try:
            await until_final(lambda: self.client.release(one.id, request), pause=self.link.pause)
        except Refused as error:
            log.info("payload_release_refused", job=one.id, code=error.code, reason=str(error))
            return False
        return True


@dataclass
class Sink:
    """Passes what a poll brings to the part that deals with it; a `PollSink`."""

    payloads: Payloads
    identity: KeptIdentity
    rotation: SecretRotation
    orders: Orders
    shutdown: Shutdown
    is_revoked: bool = False

    def accept(self, grant: Grant) -> None:
        """See `Payloads.accept`."""
        self.payloads.accept(grant)

    def stop(self, directive: StopDirective) -> None:
        """See `Payloads.stop`."""
        self.payloads.stop(directive)

    def adopt(self, settings: WorkerSettings) -> None:
        """Stores and follows the settings that the centre has changed."""
        try:
            self.identity.adopt(settings)
        except OSError as error:
            log.warning("settings_not_on_disk", error=str(error))
        self.rotation.check()
        self.orders.follow(settings)

    def answered(self) -> None:
        """See `Orders.answered`."""
        self.orders.answered()

    def runtime_refused(self, centre: str) -> None:
        """Cannot happen: a consumer accepts no tasks."""

    def revoked(self) -> None:
        """Accepts nothing new, and leaves when no job is left."""
        self.is_revoked = True
        self.shutdown.reach(ShutdownStage.DRAIN, "the credential was revoked")


@dataclass(frozen=True)
class Consuming:
    """One run.

    Attributes:
        settings: Those that connection and drain need.
        state: Prepared and locked.
        slots: How many handlers run at once, unless an operator has set another number.
        grace_s: How long stopped handlers may take, besides the time for the delivery of what they leave.
    """

    client: RelayClient
    link: Link
    settings: Settings
    state: StateDir
    identity: KeptIdentity
    handler: Handler
    slots: int
    grace_s: float
    shutdown: Shutdown

    async def run(self) -> bool:
        """Consumes until drained; returns False if the credential was revoked."""
        incarnation = self.state.next_incarnation()
        table = JobRegistry[Handling](self.slots)
        async with asyncio.TaskGroup() as jobs:
            payloads = Payloads(self.client, self.link, table, self.handler, incarnation, jobs)
            rotation = SecretRotation(self.identity, self.client, self.link)
            worker, drain_s = self.identity.current.enrollment.worker, self.settings.drain_timeout_s
            orders = Orders(self.shutdown, table, payloads, worker, self.slots, drain_s)
            sink = Sink(payloads, self.identity, rotation, orders, self.shutdown)
            contact = ContactWatch(table)
            tuner = PollTimeoutTuner(self.settings.poll_hold_s)
            polls = PollLoop(self.client, table, self.link, sink, self._report(incarnation), tuner, contact)
            async with asyncio.TaskGroup() as loops:
                orders.follow(self.identity.current.enrollment.settings)
                running = [
                    loops.create_task(polls.run(), name="poll-loop"),
                    loops.create_task(contact.run(), name="contact"),
                    loops.create_task(orders.run(), name="orders"),
                    loops.create_task(rotation.run(), name="rotate-secret"),
                    loops.create_task(LinkProbe(self.client, self.link, table).run(), name="link-probe"),
                ]
                draining = Draining(self.shutdown, table, payloads, self.grace_s, drain_s)
                try:
                    await draining.until_leaving()
                except asyncio.CancelledError:
                    await _leave(payloads)
                    raise
                for loop in running:
                    loop.cancel()
            payloads.close_all()
        return not sink.is_revoked

    def _report(self, incarnation: int) -> Report:
        health = AgentHealth(self.state.path, self.client.proxy, self.link, self.client.skew, lambda: 0, lambda: None)
        return Report(
            incarnation=incarnation,
            instance=self.state.instance(),
            host=platform.node()[:253],
            auxiliary=(),
            kinds=lambda: (JobKind.PAYLOAD,),
            settings_version=self.identity.current.enrollment.settings.version,
            versions=lambda: worker_versions(None),
            health=health.read,
        )


async def _leave(payloads: Payloads) -> None:
    """Release what runs, for a few seconds: otherwise other consumers would wait for the whole tolerance."""
    payloads.stop_all("the consumer was cancelled")
    try:
        async with asyncio.timeout(DELIVERY_GRACE_S):
            await payloads.until_idle()
    except TimeoutError:
        log.warning("payloads_left_behind", jobs=payloads.busy)
