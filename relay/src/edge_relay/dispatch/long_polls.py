"""A long poll from its arrival to its answer."""

import asyncio

from edge_broker.audit import Audit
from edge_relay.dispatch.arrival import agent_seen, check_report, report_conflict, worker_entry
from edge_relay.dispatch.poll_session import PollParts, PollSession, Send
from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.identity.principals import Principal
from edge_relay.stores.worker_store import PATIENCE_S
from edge_schemas.wire.polls import Poll


class LongPolls:
    """Parks polls and answers them.

    Args:
        parts: What a parked poll reads and changes.
        audit: Where credential conflicts are reported.
        relay: The name of this replica.
        longest_s: How long a poll may wait at most.
    """

    def __init__(self, parts: PollParts, audit: Audit, *, relay: str, longest_s: float) -> None:
        self._parts = parts
        self._audit = audit
        self._relay = relay
        self._longest_s = longest_s

    async def wait_ready(self) -> None:
        """Wait until a poll can arrive. Call it before the poll's body is read: it costs next to nothing until then.

        Raises:
            EdgeError: `draining`.
            BrokerUnavailable: NATS is still unreachable after `PATIENCE_S`, or what operators have set is unknown.
        """
        self._parts.lifecycle.check()
        await self._parts.broker.wait_connected(PATIENCE_S)
        await self._parts.desired.wait_ready()

    async def answer(self, principal: Principal, report: Poll, address: str | None, send: Send) -> None:
        """Park a poll until there is something to send to its worker, or its poll timeout is over.

        Args:
            principal: The worker that polls.
            report: The poll.
            address: Where the poll came from.
            send: Writes the answer.

        Raises:
            EdgeError: The report is refused, or the poll is `superseded`, or its replica is `draining`.
        """
        check_report(report)
        self._parts.lifecycle.check()
        most = await self._parts.unstarted.room(principal.worker, report)
        agent = agent_seen(report, address, principal.agent_key_hash)
        parked = ParkedPoll(
            principal.worker,
            principal.secret_hash,
            report,
            agent,
            most,
            site=principal.site,
            queues=principal.queues,
        )
        with self._parts.polls.parked(parked):
            try:
                await self._arrive_and_answer(principal, parked, send)
            except (asyncio.CancelledError, ConnectionError):
                if not self._parts.lifecycle.stopping.is_set():  # else this replica closed the connection
                    await self._parts.workers.leave(parked.worker, parked.agent.arrival)
                raise

    async def _arrive_and_answer(self, principal: Principal, parked: ParkedPoll, send: Send) -> None:
        new = worker_entry(principal, parked, relay=self._relay, longest_s=self._longest_s)
        stored = await self._parts.workers.arrive(new, superseded_by=parked.poll.superseded_by)
        self._parts.polls.arrived(parked, stored)
        await report_conflict(self._audit, stored.entry, parked.agent)
        session = PollSession(self._parts, parked, stored.entry, new.poll_timeout_s)
        try:
            await session.answer(send)
        finally:
            await session.return_to_queue(parked.demand.close())
