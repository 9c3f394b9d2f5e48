"""A NATS connection that comes back after any failure, and JetStream calls with typed errors.

nats-py closes a connection for good on some server errors, leaves requests hanging when a server dies, and reports a
missing permission only in its error callback. Here a closed connection is replaced, every request has a time-out, and a
failure is either `BrokerUnavailable` (unknown outcome or no broker: try again, then read) or `JetStreamError` (the
server rejected the call, with its code).
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg
from nats.js.kv import KeyValue

from edge_broker.connection.api import ApiAnswer
from edge_broker.connection.client import JetStreamAfter
from edge_broker.connection.errors import BrokerUnavailable, check_error
from edge_broker.connection.requests import REQUEST_TIMEOUT_S, Requests
from edge_broker.connection.settings import BrokerSettings
from edge_broker.connection.subscriptions import MessageHandler, Subscriptions
from edge_broker.connection.supervisor import ConnectionSupervisor

log = structlog.get_logger(__name__)

Message = Msg


class Broker:
    """One connection to NATS, kept alive in the background between `async with` and its end."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._requests = Requests()
        self._subscriptions = Subscriptions()
        self._supervisor = ConnectionSupervisor(settings, self._requests, self._subscriptions)

    async def __aenter__(self) -> Self:
        self._supervisor.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._supervisor.stop()

    @property
    def connected(self) -> bool:
        """Whether the connection stands right now, as far as is known."""
        return self._supervisor.connected.is_set()

    @property
    def reconnects(self) -> int:
        """How often the connection was made again, replaced clients included."""
        return self._supervisor.reconnects

    @property
    def lost_at(self) -> float | None:
        """`time.monotonic()` when the connection was lost for the last time."""
        return self._supervisor.lost_at

    @property
    def server_version(self) -> tuple[int, int, int]:
        """Of the connected server."""
        version = self._supervisor.require_client().connected_server_version
        return version.major, version.minor, version.patch

    @property
    def server_id(self) -> str:
        """Of the connected server; a server that is restarted gets a new one.

        Raises:
            BrokerUnavailable: There is no connection.
        """
        return str(self._supervisor.require_client()._server_info["server_id"])  # noqa: SLF001

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have, by the connected server; raises `BrokerUnavailable` without a connection."""
        return self._supervisor.require_client().max_payload

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait for the first, or next, connection.

        Raises:
            BrokerUnavailable: The time is over.
        """
        if self.connected:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._supervisor.connected.wait()
        except TimeoutError:
            urls = ", ".join(self._settings.urls)
            raise BrokerUnavailable(
                f"no connection to NATS at {urls} as user {self._settings.role!r} within {timeout_s:g} s"
            ) from None

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call `listener` at every new connection: requests and pulls of the old one are lost."""
        self._supervisor.on_connection(listener)

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        """Send a core message without a confirmation. Dropped while there is no connection."""
        client = self._supervisor.connected_client
        if client is None:
            return
        try:
            await client.publish(subject, payload)
        except nats.errors.Error as error:
            log.warning("broker_publish_failed", subject=subject, error=repr(error))

    async def send(self, subject: str, payload: bytes, *, reply: str) -> None:
        """Send a message whose answers go to a subscription of the caller.

        Raises:
            BrokerUnavailable: There is no connection.
        """
        try:
            await self._supervisor.require_client().publish(subject, payload, reply=reply)
        except (nats.errors.Error, ConnectionError) as error:
            raise BrokerUnavailable(f"NATS did not accept a message: {error!r}") from error

    async def subscribe(self, subject: str, handler: MessageHandler) -> int:
        """Subscribe for as long as the broker lives, over all its connections; returns a number for `unsubscribe`.

        Messages of one subscription are handled one at a time: the handler must not wait for slow work.
        """
        return await self._subscriptions.add(subject, handler, self._supervisor.connected_client)

    async def unsubscribe(self, number: int) -> None:
        """End a subscription. What the server had sent by then is still handled: it may be a job."""
        await self._subscriptions.remove(number, connected=self.connected)

    def new_inbox(self) -> str:
        """A subject for answers that only this user may read."""
        return self._supervisor.require_client().new_inbox()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Msg:
        """Send a message and wait for one answer.

        Raises:
            BrokerUnavailable: There was none.
            PayloadTooLarge: The message was not sent.
        """
        return await self._requests.request(self._supervisor.require_client(), subject, payload, headers, timeout_s)

    async def api(self, call: str, body: Mapping[str, object] | None = None) -> ApiAnswer:
        """A call of the JetStream API, for example `STREAM.INFO.EDGE_JOBS`; the answer is the server's JSON.

        Raises:
            JetStreamError: The server rejected the call.
            BrokerUnavailable: The outcome is unknown.
        """
        message = await self.request(f"$JS.API.{call}", orjson.dumps(body) if body is not None else b"")
        answer: ApiAnswer = orjson.loads(message.data)
        check_error(answer.get("error"))
        return answer

    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Publish into a stream and wait until the message is stored; returns its stream sequence.

        Raises:
            JetStreamError: The stream rejected the message; a `StreamFull` if a limit is reached.
            BrokerUnavailable: The outcome is unknown.
        """
        message = await self.request(subject, payload, headers=headers)
        answer = orjson.loads(message.data)
        check_error(answer.get("error"))
        return int(answer["seq"])

    async def watch(self, bucket: str, *, after: int = 0) -> KeyValue.KeyWatcher:
        """Start to watch all keys of a bucket; `watched_bucket.WatchedBucket` handles the failures of a watch.

        Args:
            bucket: Its name.
            after: Show what was stored after this message of the bucket's stream; 0 shows all values.

        Raises:
            BrokerUnavailable: There is no connection.
            nats.errors.Error: The server did not answer or rejected the watch.
        """
        client = self._supervisor.require_client()
        if not after:
            return await (await client.jetstream(timeout=REQUEST_TIMEOUT_S).key_value(bucket)).watchall()
        jetstream = JetStreamAfter(client, after, timeout=REQUEST_TIMEOUT_S)
        return await (await jetstream.key_value(bucket)).watchall(include_history=True)
