"""A key-value bucket read through the stream leader and written by compare-and-swap.

nats-py's own key-value client reads by direct get, which a follower that is behind may answer; a decision
that depends on the value needs the leader's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import (
    STREAM_NOT_FOUND,
    BrokerUnavailable,
    JetStreamError,
)
from edge_broker.jetstream.append import SequenceConflict, append, life_of
from edge_broker.jetstream.stored import last_message
from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.subjects import kv_stream, kv_subject

DELETE_MARK = {"KV-Operation": "DEL"}
"""Headers of a message that marks its key as deleted."""
_DELETE_MARKS = frozenset({"KV-Operation", "Nats-Marker-Reason"})


class RevisionConflict(Exception):
    """The key was written since it was read. Read again and decide again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A value with the revision that a swap must name; `value` is None where the key was deleted or has expired.

    Attributes:
        ends_at: When the server removes the value; None if it stays.
    """

    value: bytes | None
    revision: int
    ends_at: datetime | None = None


class Bucket:
    """One bucket of the layout."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self.name = name

    async def get(self, key: str) -> Stored:
        """The newest value, from the leader; revision 0 if there never was one.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        try:
            message = await last_message(self._broker, kv_stream(self.name), kv_subject(self.name, key))
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                raise self._missing() from error
            raise
        if message is None:
            return Stored(None, 0)
        deleted = not _DELETE_MARKS.isdisjoint(message.headers)
        life_s = life_of(message.headers)
        ends_at = None if life_s is None else message.stored_at + timedelta(seconds=life_s)
        return Stored(None if deleted else message.data, message.sequence, ends_at)

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match a subject pattern, deleted ones included: a mark of deletion is a message too.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        try:
            found = await subjects_with_messages(self._broker, kv_stream(self.name), kv_subject(self.name, pattern))
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                raise self._missing() from error
            raise
        prefix = kv_subject(self.name, "")
        return [subject.removeprefix(prefix) for subject in found]

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        newest: int | None = None,
        life: timedelta | None = None,
    ) -> int:
        """Write a value and return its revision.

        Args:
            key: Subject tokens.
            value: The new value.
            revision: Write only if this is still the key's revision; 0 means the key must be new.
            newest: Write only if this is still the highest revision in the bucket.
            life: Remove the value after this time.

        Raises:
            RevisionConflict: The key has another revision, or the bucket a newer one. After an unknown outcome it may
                be the caller's own.
            BrokerUnavailable: The outcome is unknown.
        """
        life_s = None if life is None else int(life.total_seconds())
        subject = kv_subject(self.name, key)
        result = await append(self._broker, subject, value, after=revision, after_in_stream=newest, life_s=life_s)
        if isinstance(result, SequenceConflict):
            raise RevisionConflict(key)
        return result.sequence

    async def delete(self, key: str, *, revision: int, mark_life: timedelta) -> None:
        """Replace a value by a mark of deletion, which shows readers of the bucket that it is gone.

        Args:
            key: Subject tokens.
            revision: Delete only if this is still the key's revision.
            mark_life: As long as the mark exists, the key is not new for `put`.

        Raises:
            RevisionConflict: The key has another revision.
            BrokerUnavailable: The outcome is unknown.
        """
        subject, life_s = kv_subject(self.name, key), int(mark_life.total_seconds())
        result = await append(self._broker, subject, b"", after=revision, life_s=life_s, headers=DELETE_MARK)
        if isinstance(result, SequenceConflict):
            raise RevisionConflict(key)

    def _missing(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"there is no bucket {self.name}: run 'edge-relay streams apply'")
