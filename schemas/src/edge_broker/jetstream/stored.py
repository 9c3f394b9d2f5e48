"""Messages of a stream as they are stored, read one at a time through the stream leader.

A direct get may be answered by a follower that is behind; where a decision depends on the message, the leader is asked.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edge_broker.connection.api import JetStreamApi
from edge_broker.connection.errors import NO_MESSAGE, JetStreamError


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream.

    Attributes:
        sequence: Its number in the stream.
        headers: The publisher's.
    """

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes
    stored_at: datetime


async def last_message(api: JetStreamApi, stream: str, subject: str) -> StoredMessage | None:
    """The last message of a subject; None if there is none.

    Raises:
        JetStreamError: There is no such stream, or the server rejected the read.
        BrokerUnavailable: No answer.
    """
    return await _get(api, stream, {"last_by_subj": subject})


async def first_message(api: JetStreamApi, stream: str, pattern: str) -> StoredMessage | None:
    """The first message whose subject matches a pattern; None if there is none.

    Raises:
        JetStreamError: There is no such stream, or the server rejected the read.
        BrokerUnavailable: No answer.
    """
    return await _get(api, stream, {"next_by_subj": pattern})


async def _get(api: JetStreamApi, stream: str, request: Mapping[str, str]) -> StoredMessage | None:
    try:
        answer = await api.api(f"STREAM.MSG.GET.{stream}", request)
    except JetStreamError as error:
        if error.code == NO_MESSAGE:
            return None
        raise
    return _parse_message(answer["message"])


def _parse_message(message: Mapping[str, str]) -> StoredMessage:
    """The message in an answer to `STREAM.MSG.GET`; body and headers are left out of it where they are empty."""
    return StoredMessage(
        subject=message["subject"],
        sequence=int(message["seq"]),
        headers=_parse_headers(base64.b64decode(message.get("hdrs", ""))),
        data=base64.b64decode(message.get("data", "")),
        stored_at=datetime.fromisoformat(message["time"]),
    )


def _parse_headers(raw: bytes) -> dict[str, str]:
    """Headers as NATS stores them: a version line, then one `name: value` a line."""
    headers: dict[str, str] = {}
    for line in raw.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name, value.strip())
    return headers
