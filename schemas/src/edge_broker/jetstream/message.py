"""A delivered message's acknowledgement subject: what it reports of the delivery, and the replies that end it.

A reply is sent without a confirmation: if an ack or nak is lost, the server delivers the message again after the
consumer's `ack_wait`.
"""

import orjson

from edge_broker.connection.broker import Broker

_ACK = b"+ACK"
_NAK = b"-NAK"
_TERM = b"+TERM"
_DELIVERED, _PENDING = 1, 5


def delivery_number(ack_subject: str) -> int:
    """1 for the first delivery of a message."""
    return int(_ack_tokens(ack_subject)[_DELIVERED])


def pending(ack_subject: str) -> int:
    """How many messages waited behind it, at its consumer, that were never delivered."""
    return int(_ack_tokens(ack_subject)[_PENDING])


async def ack(broker: Broker, ack_subject: str) -> None:
    """The message is done: the stream may drop it."""
    await broker.publish(ack_subject, _ACK)


async def nak(broker: Broker, ack_subject: str, *, delay_s: float = 0.0) -> None:
    """Return the message to its queue, at once or after a delay."""
    delay = b"" if delay_s <= 0 else b" " + orjson.dumps({"delay": int(delay_s * 1e9)})
    await broker.publish(ack_subject, _NAK + delay)


async def term(broker: Broker, ack_subject: str, reason: str) -> None:
    """Remove a message that must not be delivered again; the server's advisory carries the reason."""
    await broker.publish(ack_subject, _TERM + b" " + reason.encode())


def _ack_tokens(ack_subject: str) -> list[str]:
    """Consumer, delivery number, sequence in stream and consumer, time in ns, pending.

    Servers write `$JS.ACK.<stream>.<consumer>…`, or with domain and account before the stream and perhaps one more
    token at the end.
    """
    tokens = ack_subject.split(".")
    first = 3 if len(tokens) == 9 else 5
    return tokens[first : first + 6]
