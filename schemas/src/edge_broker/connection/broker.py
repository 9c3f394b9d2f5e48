"""A NATS connection that comes back whatever happens, and JetStream calls whose failures have names.

nats-py closes a connection for good on some server errors, leaves requests hanging when a server dies, and reports a
missing permission only beside the call. Here a closed connection is replaced, every request has a time-out, and a
failure is either `BrokerUnavailable` (unknown outcome or no broker: try again, then read) or `JetStreamError` (the
server's refusal, with its code).
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.kv import KeyValue

from edge_broker.connection.client import ErrorLog, MendedClient
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 5.0
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 10.0
STEADY_S = 30.0
"""A connection that stood for so long was not closed for what is asked of it at the start."""
NO_RESPONDERS = "503"
HEADER_RESERVE_BYTES = 512
"""The server counts headers too and closes the connection of whoever exceeds its limit."""

Message = Msg
MessageHandler = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach NATS.

    Attributes:
        urls: Servers of one cluster, without credentials.
        role: The NATS user's name and the prefix of its inboxes; see `permissions`.
        ca_file: For `tls://` servers with a CA of their own.
    """

    urls: tuple[str, ...]
    role: str
    password: str = field(repr=False)
    ca_file: Path | None = None


class BrokerUnavailable(EdgeError):
    """No connection, no answer in time, or no leader. The outcome of a write is unknown: repeat it or read again."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.BROKER_UNAVAILABLE, detail, retry_after_s=1.0)


class JetStreamError(Exception):
    """The server refused a JetStream call.

    Args:
        code: The server's `err_code`, stable between releases.
        description: The server's text; code 10077 needs it to tell its cases apart.
    """

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class PayloadTooLarge(EdgeError):
    """The message would exceed the server's `max_payload`."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(ErrorCode.PAYLOAD_TOO_LARGE, f"{size} bytes do not fit into a message of at most {limit}")


class Broker:
    """One connection to NATS, kept alive in the background between `async with` and its end."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._subscriptions: dict[int, tuple[str, MessageHandler]] = {}
        self._live: dict[int, Subscription] = {}
        self._subscribing = asyncio.Lock()
        self._next_id = 0
        self._pending: dict[str, asyncio.Future[Msg]] = {}
        self._inbox = ""
        self._keeper: asyncio.Task[None] | None = None
        self._was_connected = False
        self.reconnects = 0
        """Times the connection stood anew, replaced ones included."""
        self.lost_at: float | None = None
        """`time.monotonic()` when the connection was lost for the last time."""

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"broker-{self._settings.role}")
        self._keeper.add_done_callback(self._report_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            await task_cleanup.cancel([self._keeper])
        client = self._client
        if client is None or client.is_closed:
            return
        steps = (client.flush, client.close) if self._connected.is_set() else (client.close,)
        for step in steps:
            if step == client.close:
                self._lose()  # wanted, so nothing to warn of
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await step()
            except (TimeoutError, nats.errors.Error, OSError) as failure:
                # The server has gone: nobody may fail to leave for that.
                log.info("broker_close_failed", role=self._settings.role, error=repr(failure))

    @property
    def connected(self) -> bool:
        """Whether the connection stands right now, as far as is known."""
        return self._connected.is_set()

    @property
    def server_version(self) -> tuple[int, int, int]:
        """Of the connected server."""
        version = self._require().connected_server_version
        return version.major, version.minor, version.patch

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait for the first, or next, connection.

        Raises:
            BrokerUnavailable: The time is over.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            urls = ", ".join(self._settings.urls)
            raise BrokerUnavailable(
                f"no connection to NATS at {urls} as user {self._settings.role!r} within {timeout_s:g} s"
            ) from None

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call `listener` at every new connection: what was asked of the old one is lost."""
        self._listeners.append(listener)

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        """Send a core message, an ack or a nak; nobody confirms it. Dropped while there is no connection."""
        client = self._client
        if client is None or not self._connected.is_set():
            return
        try:
            await client.publish(subject, payload)
        except nats.errors.Error as error:
            log.warning("broker_publish_failed", subject=subject, error=repr(error))

    async def send(self, subject: str, payload: bytes, *, reply: str) -> None:
        """Send a message whose answers go to a subscription of ours.

        Raises:
            BrokerUnavailable: There is no connection.
        """
        try:
            await self._require().publish(subject, payload, reply=reply)
        except (nats.errors.Error, ConnectionError) as error:
            raise BrokerUnavailable(f"NATS did not take a message: {error!r}") from error

    async def subscribe(self, subject: str, handler: MessageHandler) -> int:
        """Subscribe for as long as the broker lives, over all its connections; returns a number for `unsubscribe`.

        Messages of one subscription are handled one at a time: the handler must not wait for slow work.
        """
        self._next_id += 1
        number = self._next_id
        self._subscriptions[number] = (subject, handler)
        if self._client is not None and self._connected.is_set():
            await self._take_up_subscriptions(self._client)
        return number

    async def unsubscribe(self, number: int) -> None:
        """End a subscription. What the server had sent by then is still handled: it may be a job."""
        self._subscriptions.pop(number, None)
        live = self._live.pop(number, None)
        if live is None:
            return
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                if self._connected.is_set():
                    await live.drain()  # type: ignore[no-untyped-call]
                else:
                    await live.unsubscribe()
        except (nats.errors.Error, TimeoutError) as error:
            # The connection went meanwhile; a reconnected client must not take the subscription up again.
            log.debug("broker_unsubscribe_failed", error=repr(error))
            await self._forget(live)

    async def _forget(self, live: Subscription) -> None:
        try:
            await live.unsubscribe()
        except nats.errors.Error as error:
            log.debug("broker_unsubscribe_failed", error=repr(error))

    def new_inbox(self) -> str:
        """A subject of our own for answers."""
        return self._require().new_inbox()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Msg:
        """Ask and wait for one answer.

        Raises:
            BrokerUnavailable: There was none.
            PayloadTooLarge: It was not sent.
        """
        client = self._require()
        size = len(payload) + sum(len(k) + len(v) + 4 for k, v in (headers or {}).items()) + HEADER_RESERVE_BYTES
        if size > client.max_payload:
            raise PayloadTooLarge(size, client.max_payload)
        self._next_id += 1
        token = str(self._next_id)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._pending[token] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
                message = await answer
        except TimeoutError:
            hint = "no leader, or the user lacks the right (then the log says so)"
            raise BrokerUnavailable(f"no answer on {subject} within {timeout_s:g} s: {hint}") from None
        except (nats.errors.Error, ConnectionError) as error:
            raise BrokerUnavailable(f"NATS did not take a request on {subject}: {error!r}") from error
        finally:
            del self._pending[token]
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            raise BrokerUnavailable(f"nobody answers on {subject}: no leader, or the stream does not exist")
        return message

    async def api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A call of the JetStream API, for example `STREAM.INFO.EDGE_JOBS`.

        Raises:
            JetStreamError: The server refused.
            BrokerUnavailable: The outcome is unknown.
        """
        answer = await self.request(f"$JS.API.{call}", orjson.dumps(body) if body is not None else b"")
        return _checked(orjson.loads(answer.data))

    async def store(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> int:
        """Publish into a stream and wait until it is stored; returns the stream sequence.

        Raises:
            JetStreamError: The stream refused, for example 10071 (wrong last sequence) or 10077 (there is one already).
            BrokerUnavailable: The outcome is unknown.
        """
        answer = await self.request(subject, payload, headers=headers)
        return int(_checked(orjson.loads(answer.data))["seq"])

    async def watch(self, bucket: str, keys: str) -> KeyValue.KeyWatcher:
        """Start to watch a bucket; see `watched_bucket.WatchedBucket`, which knows how a watch can fail.

        Raises:
            BrokerUnavailable: There is no connection.
            nats.errors.Error: The server did not answer or refused.
        """
        store = await self._require().jetstream(timeout=REQUEST_TIMEOUT_S).key_value(bucket)
        return await store.watch(keys)

    def _require(self) -> Client:
        if self._client is None or not self._connected.is_set():
            raise BrokerUnavailable("there is no connection to NATS at the moment")
        return self._client

    async def _keep_connected(self) -> None:
        """Replace a connection that was closed for good, later each time that it was closed soon."""
        loop = asyncio.get_running_loop()
        delay_s = FIRST_DELAY_S
        while True:
            closed = asyncio.Event()
            client = MendedClient()
            self._client = client  # also while it connects, so that whoever leaves meanwhile closes its socket
            await self._connect(client, closed)
            began = loop.time()
            try:
                await self._take_up(client)
                await closed.wait()
            except nats.errors.ConnectionClosedError:
                pass  # closed while it was taken up
            self._lose()
            self._live = {}
            log.warning("broker_connection_replaced", role=self._settings.role)
            if loop.time() - began > STEADY_S:
                delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _take_up(self, client: Client) -> None:
        """Subscribe to everything again, then tell who listens."""
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        await self._take_up_subscriptions(client)
        self._announce()

    async def _take_up_subscriptions(self, client: Client) -> None:
        """Make those that this client does not have yet; it keeps by itself, over its reconnects, those that it has."""
        async with self._subscribing:
            live = self._live
            while missing := self._subscriptions.keys() - live.keys():
                number = min(missing)
                subject, handler = self._subscriptions[number]
                try:
                    subscription = await client.subscribe(subject, cb=handler)
                except nats.errors.Error as error:
                    # The connection has just gone; whatever takes its place takes up the subscriptions.
                    log.debug("broker_subscribe_postponed", subject=subject, error=repr(error))
                    return
                if number in self._subscriptions:
                    live[number] = subscription
                else:
                    await self._forget(subscription)

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        tls = ssl.create_default_context(cafile=str(self._settings.ca_file)) if self._settings.ca_file else None

        async def on_closed() -> None:
            closed.set()

        async def on_disconnected() -> None:
            if self._connected.is_set():
                log.warning("broker_disconnected", role=self._settings.role)
            self._lose()

        async def on_reconnected() -> None:
            log.info("broker_reconnected", role=self._settings.role)
            await self._take_up_subscriptions(client)
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

    async def _on_answer(self, message: Msg) -> None:
        answer = self._pending.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _lose(self) -> None:
        """End the requests of a lost connection at once: nats-py would let them wait for their time-out."""
        if self._connected.is_set():
            self.lost_at = time.monotonic()
        self._connected.clear()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(BrokerUnavailable("the connection to NATS was lost before the answer came"))

    def _report_end(self, task: asyncio.Task[None]) -> None:
        """The task ends only by cancellation; anything else is a bug that must be seen, not a silent outage."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("broker_task_died", role=self._settings.role, exc_info=error)

    def _announce(self) -> None:
        self.reconnects += self._was_connected
        self._was_connected = True
        self._connected.set()
        for listener in self._listeners:
            listener()


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if error := answer.get("error"):
        code, description = int(error.get("err_code", 0)), str(error.get("description", ""))
        if int(error.get("code", 0)) == 503 and code in _TEMPORARY:
            raise BrokerUnavailable(f"JetStream: {description}")
        raise JetStreamError(code, description)
    return answer


_TEMPORARY = frozenset({10008, 10023, 10039, 10076, 10118})
"""System temporarily unavailable, disk full, JetStream not available / not enabled for a moment, and no quorum."""
