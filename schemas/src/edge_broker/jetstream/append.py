"""Publishing into a stream under a condition: behind a known last message, or once under a message id."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import WRONG_LAST_SEQUENCE, JetStreamError, SubjectOccupied

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_LAST_OF_STREAM = "Nats-Expected-Last-Sequence"
_MESSAGE_ID = "Nats-Msg-Id"
_LIFE = "Nats-TTL"


@dataclass(frozen=True, slots=True)
class Appended:
    """The message is stored.

    Attributes:
        sequence: Its number in the stream.
    """

    sequence: int


@dataclass(frozen=True, slots=True)
class SequenceConflict:
    """Another message is the last one of the subject, or of the stream; nothing was stored.

    After an earlier attempt with an unknown outcome it may be the caller's own.
    """


async def append(
    broker: Broker,
    subject: str,
    payload: bytes,
    *,
    after: int | None,
    after_in_stream: int | None = None,
    life_s: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Appended | SequenceConflict:
    """Store a message.

    Args:
        broker: The connection.
        subject: A subject of a stream.
        payload: The body.
        after: Only if the message with this sequence is the last one of the subject; 0 means that there is none.
        after_in_stream: Only if this is the sequence of the last message that the whole stream has received.
        life_s: Seconds after which the server removes it.
        headers: Further headers.

    Raises:
        JetStreamError: The stream rejected the message for another reason.
        BrokerUnavailable: The outcome is unknown.
    """
    sent = dict(headers or {})
    if after is not None:
        sent[_EXPECTED_LAST] = str(after)
    if after_in_stream is not None:
        sent[_EXPECTED_LAST_OF_STREAM] = str(after_in_stream)
    if life_s is not None:
        sent[_LIFE] = f"{life_s}s"
    try:
        return Appended(await broker.store(subject, payload, sent))
    except JetStreamError as error:
        if error.code == WRONG_LAST_SEQUENCE:
            return SequenceConflict()
        raise


def life_of(headers: Mapping[str, str]) -> int | None:
    """Seconds after which the server removes a message that `append` has stored; None if it stays."""
    life_s = headers.get(_LIFE, "").removesuffix("s")
    return int(life_s) if life_s.isdecimal() else None


async def publish_once(broker: Broker, subject: str, payload: bytes, *, message_id: str) -> None:
    """Store the one message of a subject. Nothing changes if it is there or the id was used a short time ago.

    Raises:
        StreamFull: A limit of the whole stream is reached.
        JetStreamError: The stream rejected the message for another reason.
        BrokerUnavailable: The outcome is unknown; repeat it with the same id.
    """
    try:
        await broker.store(subject, payload, {_MESSAGE_ID: message_id})
    except SubjectOccupied:
        return
