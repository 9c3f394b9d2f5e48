"""Keeps one client connected: nats-py reconnects, and a client that it has closed for good is replaced here."""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable

import nats.errors
import structlog
from nats.aio.client import Client

from edge_broker.connection.client import CorrectedClient, ErrorLog
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.requests import Requests
from edge_broker.connection.settings import BrokerSettings
from edge_broker.connection.subscriptions import Subscriptions
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 5.0
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 10.0
STEADY_S = 30.0
"""A connection that stood for so long was not closed because of the calls at its start."""


class ConnectionSupervisor:
    """Owns the client and the task that replaces it.

    Attributes:
        client: The current one; also while it connects, so that `stop` closes its socket.
        connected: Set while the connection stands, as far as is known.
        reconnects: How often the connection was made again, replaced clients included.
        lost_at: `time.monotonic()` when the connection was lost for the last time.
    """

    def __init__(self, settings: BrokerSettings, requests: Requests, subscriptions: Subscriptions) -> None:
        self._settings = settings
        self._requests = requests
        self._subscriptions = subscriptions
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._was_connected = False
        self.client: CorrectedClient | None = None
        self.connected = asyncio.Event()
        self.reconnects = 0
        self.lost_at: float | None = None

    @property
    def connected_client(self) -> Client | None:
        """The client if it is connected right now, else None."""
        return self.client if self.connected.is_set() else None

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call `listener` at every new connection."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Connect in the background."""
        self._task = asyncio.create_task(self._keep_connected(), name=f"broker-{self._settings.role}")
        self._task.add_done_callback(self._report_end)

    async def stop(self) -> None:
        """Flush and close; a server that is gone is no error. When cancelled, close without flushing."""
        try:
            if (client := self.connected_client) is not None:
                await _attempt(client.flush, self._settings.role)
        finally:
            await task_cleanup.finish_first(self._close(), f"broker-close-{self._settings.role}")

    async def _close(self) -> None:
        """Also of a client that still connects: no socket and no task of it is left."""
        if self._task is not None:
            await task_cleanup.cancel_and_wait([self._task])
        if (client := self.client) is None:
            return
        self._lose()  # intended, so there is no warning
        try:
            await _attempt(client.close, self._settings.role)
        finally:
            client.abort()

    async def _keep_connected(self) -> None:
        """Replace a client that was closed for good, after a longer delay each time that it was closed soon."""
        loop = asyncio.get_running_loop()
        delay_s = FIRST_DELAY_S
        while True:
            closed = asyncio.Event()
            client = CorrectedClient()
            self.client = client
            await self._connect(client, closed)
            began = loop.time()
            try:
                await self._prepare(client)
                await closed.wait()
            except nats.errors.ConnectionClosedError:
                pass  # closed during the preparation
            self._lose()
            self._subscriptions.client_closed()
            log.warning("broker_connection_replaced", role=self._settings.role)
            if loop.time() - began > STEADY_S:
                delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _prepare(self, client: Client) -> None:
        """Make the inbox and all subscriptions, then call the listeners."""
        await self._requests.open(client)
        await self._subscriptions.make_missing(client)
        self._announce()

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        tls = ssl.create_default_context(cafile=str(self._settings.ca_file)) if self._settings.ca_file else None

        async def on_closed() -> None:
            closed.set()

        async def on_disconnected() -> None:
            if self.connected.is_set():
                log.warning("broker_disconnected", role=self._settings.role)
            self._lose()

        async def on_reconnected() -> None:
            log.info("broker_reconnected", role=self._settings.role)
            await self._subscriptions.make_missing(client)
            self._announce()

        await client.connect(
            servers=list(self._settings.urls),
            user=self._settings.role,
            password=self._settings.password,
            name=f"edge-relay {self._settings.role}",
            tls=tls,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; the annotation is narrower than the code
            connect_timeout=5,
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=16 << 20,
            inbox_prefix=f"_INBOX_{self._settings.role}".encode(),
            closed_cb=on_closed,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            error_cb=ErrorLog(self._settings.role).handle,
        )

    def _lose(self) -> None:
        """The connection is lost: end its requests now; nats-py would let them wait for their time-out."""
        if self.connected.is_set():
            self.lost_at = time.monotonic()
        self.connected.clear()
        self._requests.fail_all()

    def _announce(self) -> None:
        self.reconnects += self._was_connected
        self._was_connected = True
        self.connected.set()
        for listener in self._listeners:
            listener()

    def _report_end(self, task: asyncio.Task[None]) -> None:
        """The task ends only by cancellation; any other end is a bug and must be logged."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("broker_task_died", role=self._settings.role, exc_info=error)

    def require_client(self) -> Client:
        """The connected client.

        Raises:
            BrokerUnavailable: There is no connection.
        """
        client = self.connected_client
        if client is None:
            raise BrokerUnavailable("there is no connection to NATS at the moment")
        return client


async def _attempt(step: Callable[[], Awaitable[None]], role: str) -> None:
    """A step of leaving, for a limited time."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await step()
    except (TimeoutError, nats.errors.Error, OSError) as failure:
        log.info("broker_close_failed", role=role, error=repr(failure))
