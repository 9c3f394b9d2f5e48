"""Notices from other replicas, keepers and executors. A notice only wakes a part, which then reads the state."""

import asyncio
from collections.abc import Callable

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.subscriptions import Message
from edge_broker.subjects import NOTICES
from edge_relay.dispatch.polls import ParkedPolls
from edge_relay.identity.credentials import Credentials
from edge_relay.pulls.dispatcher_pool import DispatcherPool

log = structlog.get_logger(__name__)

MAX_QUEUED = 1000
KINDS = ("worker", "queue", "access")
"""Beats and demand are notices too, which relays send and do not need."""


class Notices:
    """Subscribes to the notices for relays. Run `run()` in a task group.

    Args:
        broker: Brings the notices.
        polls: Of workers.
        dispatchers: Of queues.
        credentials: Of all callers.
        on_log: Called with the id of a submitted job whose log has grown.
    """

    def __init__(
        self,
        broker: Broker,
        polls: ParkedPolls,
        dispatchers: DispatcherPool,
        credentials: Credentials,
        on_log: Callable[[str], None],
    ) -> None:
        self._on_log = on_log
        self._broker = broker
        self._polls = polls
        self._dispatchers = dispatchers
        self._credentials = credentials
        self._changed: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED)

    async def run(self) -> None:
        """Receive notices until cancelled."""
        numbers = [await self._broker.subscribe(f"{NOTICES}.{kind}.*", self._receive) for kind in KINDS]
        try:
            while True:
                await self._refresh(await self._changed.get())
        finally:
            for number in numbers:
                await self._broker.unsubscribe(number)

    async def _receive(self, message: Message) -> None:
        kind, _, name = message.subject.removeprefix(f"{NOTICES}.").partition(".")
        if kind == "worker":
            self._polls.notice(name, message.data)
        elif kind == "queue":
            self._dispatchers.consumer_made(name)
        elif kind == "log":
            self._on_log(name)
        elif kind == "access" and not self._changed.full():
            # A full queue drops the notice: the bucket's watch brings the change too.
            self._changed.put_nowait(name)

    async def _refresh(self, secret_hash: str) -> None:
        try:
            await self._credentials.refresh(secret_hash)
        except BrokerUnavailable as error:
            log.warning("credential_not_refreshed", error=str(error))
