"""One run of a consumer: the loops of the agent, with payloads and their handlers in the place of processes."""

import asyncio
import platform
from dataclasses import dataclass

from edge_schemas.wire.jobs import JobKind
from edge_worker.agent.draining import DELIVERY_GRACE_S, Draining
from edge_worker.agent.link_probe import LinkProbe
from edge_worker.agent.orders import Orders
from edge_worker.agent.poll_answers import PollHandler
from edge_worker.agent.poll_loop import PollLoop, Report
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.agent.secret_rotation import SecretRotation
from edge_worker.agent.shutdown import Shutdown
from edge_worker.client.contact import ContactWatch
from edge_worker.client.handling import Handler, Handling
from edge_worker.client.payloads import Payloads
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.machine.health import AgentHealth, worker_versions
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.settings import Settings
from edge_worker.state.kept_identity import KeptIdentity
from edge_worker.state.state import StateDir

log = EventLog("edge_worker.client.consuming")


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
            sink = PollHandler(payloads, self.identity, rotation, orders, self.shutdown, _ignore)
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


def _ignore(_: str) -> None:
    """A consumer accepts no tasks, so no runtime is too old for them."""
