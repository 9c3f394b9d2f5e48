"""A batch of stored messages by direct get: several answers on one inbox, the last one a status.

Any replica of the stream may answer, so a batch may end before the newest message.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.subscriptions import Message

_NO_MESSAGES = "404"
_END_OF_BATCH = "204"
_CHECK_S = 1.0
"""After so long without an answer, a read checks that its connection still stands."""
MAX_SUBJECTS = 1024
"""The server answers a read of the last messages of more subjects with an error."""


@dataclass(frozen=True, slots=True)
class BatchMessage:
    """One message of a batch.

    Attributes:
        sequence: Its number in the stream.
        headers: The publisher's and the server's.
    """

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def stored_at(self) -> datetime:
        """When the server stored it, by the server's clock."""
        return datetime.fromisoformat(self.headers["Nats-Time-Stamp"])


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of the stream.

    Attributes:
        more: Further messages match behind them.
    """

    messages: tuple[BatchMessage, ...] = ()
    more: bool = False


async def read_batch(
    broker: Broker, stream: str, pattern: str, *, after: int, max_messages: int, max_bytes: int
) -> Batch:
    """The messages behind a sequence whose subjects match a pattern. The caller sets a time-out.

    Raises:
        BrokerUnavailable: There is no connection, or the read ended with an error.
    """
    request = {"next_by_subj": pattern, "seq": after + 1, "batch": max_messages, "max_bytes": max_bytes}
    messages, end = await _collect(broker, stream, request)
    if end["Status"] == _NO_MESSAGES:
        return Batch()
    return Batch(tuple(messages), more=int(end.get("Nats-Num-Pending", "0")) > 0)


async def read_last(
    broker: Broker, stream: str, subjects: Sequence[str], *, max_bytes: int
) -> Mapping[str, BatchMessage]:
    """The last messages of these subjects, in no order, until they have so many bytes. The caller sets a time-out.

    Messages that a replica does not have yet are left out as well: ask again for what is missing while there is
    progress, then the stream leader.

    Args:
        broker: The connection.
        stream: Its name.
        subjects: At most `MAX_SUBJECTS`.
        max_bytes: The message that exceeds it is the last one.

    Raises:
        BrokerUnavailable: There is no connection, or the read ended with an error.
    """
    messages, _ = await _collect(broker, stream, {"multi_last": list(subjects), "max_bytes": max_bytes})
    return {message.subject: message for message in messages}


async def _collect(
    broker: Broker, stream: str, request: Mapping[str, object]
) -> tuple[list[BatchMessage], Mapping[str, str]]:
    """The messages of a batch and the headers of the status that ends it."""
    inbox = broker.new_inbox()
    answers: asyncio.Queue[tuple[Mapping[str, str], bytes]] = asyncio.Queue()

    async def on_answer(message: Message) -> None:
        answers.put_nowait((message.headers or {}, message.data))

    reconnects = broker.reconnects
    number = await broker.subscribe(inbox, on_answer)
    try:
        await broker.send(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), reply=inbox)
        messages: list[BatchMessage] = []
        while True:
            headers, data = await _next(broker, answers, reconnects)
            if (status := headers.get("Status")) is not None:
                break
            messages.append(BatchMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, data))
    finally:
        await broker.unsubscribe(number)
    if status not in {_NO_MESSAGES, _END_OF_BATCH}:
        raise BrokerUnavailable(f"a read of stream {stream} ended with status {status}")
    return messages, headers


async def _next(
    broker: Broker, answers: asyncio.Queue[tuple[Mapping[str, str], bytes]], reconnects: int
) -> tuple[Mapping[str, str], bytes]:
    """The next answer. With its connection, the rest of a batch is lost: no answer comes, and no error.

    Raises:
        BrokerUnavailable: The connection was lost.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_S):
                return await answers.get()
        if not broker.connected or broker.reconnects != reconnects:
            raise BrokerUnavailable("the connection to NATS was lost before a read had ended")
