"""Names and identifiers with their allowed characters and lengths."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

JobId = Annotated[
    str, Field(pattern=_UUID, description="A dispatch: Airflow's external_executor_id, a lower-case UUID.")
]
TaskInstanceId = Annotated[str, Field(pattern=_UUID, description="Airflow's task instance id, a lower-case UUID.")]
WorkerName = Annotated[str, Field(pattern=_LABEL, description="Given by the relay at enrolment; a DNS label.")]
SiteName = Annotated[str, Field(pattern=_LABEL, description="Where a worker stands; a DNS label.")]
RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$", description="Names one call over all its repeats.")]

MAX_QUEUE_CHARS = 100
MAX_TEAM_CHARS = 50
MAX_TOKEN_CHARS = 180
MAX_TEAM_TOKEN_CHARS = 73
"""A consumer name holds team and queue, each encoded, and two characters between them: 255 is what NATS allows."""

_PLAIN = re.compile(rb"[A-Za-z0-9-]")
_ENCODED = re.compile(r"_([0-9A-F]{2})")


def encode_name(name: str) -> str:
    """Write a queue or team name as one subject token that is also a valid consumer name; `decode_name` reverses it.

    ASCII letters, digits and inner hyphens stay readable; every other UTF-8 byte becomes `_XX`. A leading hyphen is
    encoded too: it would look like an option to the `nats` CLI, and a bare `-` stands for "no team".
    """
    return "".join(
        chr(byte) if _PLAIN.match(bytes([byte])) and not (byte == 0x2D and i == 0) else f"_{byte:02X}"
        for i, byte in enumerate(name.encode())
    )


def decode_name(token: str) -> str:
    """The name that `encode_name` wrote.

    Raises:
        ValueError: The token was not written by `encode_name`.
    """
    raw = bytearray()
    position = 0
    while position < len(token):
        if match := _ENCODED.match(token, position):
            raw.append(int(match[1], 16))
            position = match.end()
        else:
            raw += token[position].encode()
            position += 1
    name = raw.decode()
    if encode_name(name) != token:
        msg = f"{token!r} is not an encoded name"
        raise ValueError(msg)
    return name


def _check_name(name: str, longest: int = MAX_TOKEN_CHARS) -> str:
    if name != name.strip() or any(unicodedata.category(c).startswith("C") for c in name):
        msg = "must not begin or end with white space nor hold control characters"
        raise ValueError(msg)
    if len(encode_name(name)) > longest:
        msg = f"is longer than {longest} characters once encoded for a NATS subject; choose a shorter name"
        raise ValueError(msg)
    return name


def _check_team(name: str) -> str:
    return _check_name(name, MAX_TEAM_TOKEN_CHARS)


QueueName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_QUEUE_CHARS, description="A named line of jobs, as Airflow's `queue`."),
    AfterValidator(_check_name),
]
TeamName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEAM_CHARS, description="An Airflow team."),
    AfterValidator(_check_team),
]
