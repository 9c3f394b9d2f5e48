"""Subscriptions that outlive connections: made again on every client that replaces a closed one."""

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

log = structlog.get_logger(__name__)

UNSUBSCRIBE_TIMEOUT_S = 5.0

Message = Msg
MessageHandler = Callable[[Message], Awaitable[None]]


class Subscriptions:
    """What is subscribed to, by number, and the subscriptions of the current client."""

    def __init__(self) -> None:
        self._wanted: dict[int, tuple[str, MessageHandler]] = {}
        self._live: dict[int, Subscription] = {}
        self._lock = asyncio.Lock()
        self._last_number = 0

    async def add(self, subject: str, handler: MessageHandler, client: Client | None) -> int:
        """Subscribe now if there is a connected client, else as soon as there is one; returns the number."""
        self._last_number += 1
        number = self._last_number
        self._wanted[number] = (subject, handler)
        if client is not None:
            await self.make_missing(client)
        return number

    async def remove(self, number: int, *, connected: bool) -> None:
        """End a subscription. What the server had sent by then is still handled: it may be a job."""
        self._wanted.pop(number, None)
        live = self._live.pop(number, None)
        if live is None:
            return
        try:
            async with asyncio.timeout(UNSUBSCRIBE_TIMEOUT_S):
                if connected:
                    await live.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated
                else:
                    await live.unsubscribe()
        except (nats.errors.Error, TimeoutError) as error:
            # The connection was lost in between; a reconnected client must not subscribe to it again.
            log.debug("broker_unsubscribe_failed", error=repr(error))
            await self._unsubscribe(live)

    def client_closed(self) -> None:
        """The client is closed for good: its successor has none of the subscriptions."""
        self._live = {}

    async def make_missing(self, client: Client) -> None:
        """Make those that this client does not have yet; it keeps those that it has over its own reconnects."""
        async with self._lock:
            live = self._live
            while missing := self._wanted.keys() - live.keys():
                number = min(missing)
                subject, handler = self._wanted[number]
                try:
                    subscription = await client.subscribe(subject, cb=handler)
                except nats.errors.Error as error:
                    # The connection has just gone; its successor makes the subscriptions.
                    log.debug("broker_subscribe_postponed", subject=subject, error=repr(error))
                    return
                if number in self._wanted:
                    live[number] = subscription
                else:
                    await self._unsubscribe(subscription)

    async def _unsubscribe(self, live: Subscription) -> None:
        try:
            await live.unsubscribe()
        except nats.errors.Error as error:
            log.debug("broker_unsubscribe_failed", error=repr(error))
