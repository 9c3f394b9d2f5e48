"""A message of a queue as it arrived, and the three ways to settle it.

Settling is fire and forget: an ack or nak that is lost lets the message come back after the grant wait, where the
record decides again.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_schemas.wire.jobs import Job

_ACK = b"+ACK"
_NAK = b"-NAK"
_TERM = b"+TERM"


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A job that JetStream has delivered and that waits to be settled.

    Attributes:
        ack_subject: Settles it, from any connection of any replica.
        consumer: Of the queue it came from.
        arrived_at: By the wall clock: the receipt tells it to other replicas.
        arrived: The same moment by `time.monotonic()`.
    """

    job: Job
    ack_subject: str
    consumer: str
    arrived_at: datetime
    arrived: float = field(default_factory=time.monotonic)

    @property
    def stored_at(self) -> float:
        """When its message was published, as Unix time."""
        return int(_ack_tokens(self.ack_subject)[4]) / 1e9

    @property
    def number(self) -> int:
        """1 for the first delivery of its message."""
        return int(_ack_tokens(self.ack_subject)[1])


def _ack_tokens(ack_subject: str) -> list[str]:
    """Consumer, delivery number, sequence in stream and consumer, time in ns, pending.

    Servers write `$JS.ACK.<stream>.<consumer>…`, or with domain and account before the stream and perhaps a token more
    at the end.
    """
    tokens = ack_subject.split(".")
    first = 3 if len(tokens) == 9 else 5
    return tokens[first : first + 6]


async def ack(broker: Broker, ack_subject: str) -> None:
    """The record decides from here on: drop the message."""
    await broker.publish(ack_subject, _ACK)


async def nak(broker: Broker, ack_subject: str, *, delay_s: float = 0.0) -> None:
    """Give the message back to the queue, at once or after a delay."""
    delay = b"" if delay_s <= 0 else b" " + orjson.dumps({"delay": int(delay_s * 1e9)})
    await broker.publish(ack_subject, _NAK + delay)


async def term(broker: Broker, ack_subject: str, reason: str) -> None:
    """Remove a message that must not be delivered again; the server's advisory carries the reason."""
    await broker.publish(ack_subject, _TERM + b" " + reason.encode())
