"""Pull requests to a consumer, and the two kinds of answer to them: messages and statuses.

Raw requests: nats-py's own `fetch` leaves requests and messages behind when it is cancelled.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import NO_RESPONDERS
from edge_broker.connection.subscriptions import Message

_PENDING_HEADER = "Nats-Pending-Messages"


@dataclass(frozen=True, slots=True)
class PulledMessage:
    """A message of the stream. It does not say which pull it answers.

    Attributes:
        subject: Where it was published.
        ack_subject: Acknowledges it, from any connection; see `message`.
    """

    subject: str
    ack_subject: str
    data: bytes


class StatusKind(Enum):
    """What a status means for its pull."""

    HEARTBEAT = auto()
    """The pull is still open."""
    COMPLETED = auto()
    """The pull ended as it should: its time is over, or there are no messages."""
    NO_CONSUMER = auto()
    """Nothing answers: there is no such consumer, or it has no leader."""
    REJECTED = auto()
    """The server ended the pull with an error."""


_KINDS = {
    100: StatusKind.HEARTBEAT,
    404: StatusKind.COMPLETED,
    408: StatusKind.COMPLETED,
    int(NO_RESPONDERS): StatusKind.NO_CONSUMER,
}


@dataclass(frozen=True, slots=True)
class PullStatus:
    """A status message: a pull has ended, or the server says that it is still open.

    Attributes:
        pull: The number of the pull that it answers.
        code: The server's code, for metrics and logs; 0 if it is no number.
        undelivered: How many messages of the pull were not sent, if the server reports it.
    """

    pull: int
    code: int
    undelivered: int | None = None

    @property
    def kind(self) -> StatusKind:
        """What it means for the pull."""
        return _KINDS.get(self.code, StatusKind.REJECTED)


OnAnswer = Callable[[PulledMessage | PullStatus], Awaitable[None]]


class PullInbox:
    """Pulls of one consumer and the inbox that their answers come to.

    Args:
        broker: The connection.
        stream: The consumer's stream.
        consumer: A durable pull consumer.
        on_answer: Called for each answer, one at a time; must not wait for slow work.

    Raises:
        BrokerUnavailable: There is no connection.
    """

    def __init__(self, broker: Broker, stream: str, consumer: str, on_answer: OnAnswer) -> None:
        self._broker = broker
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_answer = on_answer
        self._inbox = broker.new_inbox()
        self._subscription: int | None = None

    async def open(self) -> None:
        """Subscribe; before the first pull."""
        self._subscription = await self._broker.subscribe(f"{self._inbox}.*", self._on_message)

    async def pull(self, number: int, batch: int, expires_s: float | None) -> None:
        """Ask for up to `batch` messages within a time; None for those that wait now.

        Raises:
            BrokerUnavailable: The request was not sent.
        """
        life = {"no_wait": True} if expires_s is None else {"expires": int(expires_s * 1e9)}
        body = orjson.dumps({"batch": batch, **life})
        await self._broker.send(self._request_subject, body, reply=f"{self._inbox}.{number}")

    async def close(self) -> None:
        """Unsubscribe. Answers that the server had sent by then are still handled."""
        number, self._subscription = self._subscription, None
        if number is not None:
            await self._broker.unsubscribe(number)

    async def _on_message(self, message: Message) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status is None:
            await self._on_answer(PulledMessage(message.subject, message.reply, message.data))
            return
        pending = headers.get(_PENDING_HEADER, "")
        await self._on_answer(
            PullStatus(
                pull=int(message.subject.rpartition(".")[2]),
                code=int(status) if status.isdigit() else 0,
                undelivered=int(pending) if pending.isdigit() else None,
            )
        )
