"""Names, identifiers and short texts with their allowed characters and lengths.

People type some of them; their error texts name what is allowed, not a pattern.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

JobId = Annotated[
    str, Field(pattern=_UUID, description="A dispatch: Airflow's external_executor_id, a lower-case UUID.")
]
TaskInstanceId = Annotated[str, Field(pattern=_UUID, description="Airflow's task instance id, a lower-case UUID.")]
RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$", description="Names one call and all its repeats.")]

BundleDigest = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="A version of a DAG bundle: the SHA-256 of its manifest.")
]

PieceDigest = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="A piece of a DAG bundle: the SHA-256 of its bytes.")
]

LABEL_RULE = "a DNS label: lower-case letters, digits and inner hyphens, at most 63"
MAX_QUEUE_CHARS = 100
MAX_TEAM_CHARS = 50
MAX_TOKEN_CHARS = 164
MAX_TEAM_TOKEN_CHARS = 73
"""A consumer name holds team and queue, each encoded, two characters between them, and up to 16 characters for a
kind of jobs: 255 is what NATS allows."""

MAX_CACHED_NAMES = 4096
"""Names are few, and they are checked and encoded again in each poll, record and job."""
_BREAKS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, lone surrogates, and separators of lines and paragraphs."""
_REORDERS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that make a text look like another one."""
_PLAIN = re.compile(rb"[A-Za-z0-9-]")
_ENCODED = re.compile(r"_([0-9A-F]{2})")


@lru_cache(MAX_CACHED_NAMES)
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


@lru_cache(MAX_CACHED_NAMES)
def _check_label(name: str) -> str:
    if not re.fullmatch(_LABEL, name):
        raise PydanticCustomError("dns_label", f"must be {LABEL_RULE}")
    return name


@lru_cache(MAX_CACHED_NAMES)
def _check_queue(name: str) -> str:
    return _check_name(name, MAX_QUEUE_CHARS, MAX_TOKEN_CHARS)


@lru_cache(MAX_CACHED_NAMES)
def _check_team(name: str) -> str:
    return _check_name(name, MAX_TEAM_CHARS, MAX_TEAM_TOKEN_CHARS)


def _check_name(name: str, longest: int, longest_token: int) -> str:
    plain = name == name.strip() and not any(unicodedata.category(c).startswith("C") for c in name)
    if not plain or not 1 <= len(name) <= longest:
        raise PydanticCustomError(
            "name",
            "must have 1 to {longest} characters, no white space at either end and no control characters",
            {"longest": longest},
        )
    if len(encode_name(name)) > longest_token:
        raise PydanticCustomError(
            "name_too_long",
            "is longer than {longest} characters once encoded for a NATS subject; choose a shorter name",
            {"longest": longest_token},
        )
    return name


def check_line(text: str) -> str:
    """For a validator: refuse a text that is not one line, or that could look like another one."""
    if any(unicodedata.category(c) in _BREAKS or c in _REORDERS for c in text):
        raise PydanticCustomError("line", "must be one line without control characters")
    return text


def _check_said(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("said", "must not be empty or only white space")
    return check_line(text)


def _lengths(longest: int) -> JsonDict:
    return {"minLength": 1, "maxLength": longest}


WorkerName = Annotated[
    str,
    Field(description="Given by the relay at enrolment; a DNS label.", json_schema_extra={"pattern": _LABEL}),
    AfterValidator(_check_label),
]
SiteName = Annotated[
    str,
    Field(description="Where a worker is; a DNS label.", json_schema_extra={"pattern": _LABEL}),
    AfterValidator(_check_label),
]
QueueName = Annotated[
    str,
    Field(description="A named line of jobs, as Airflow's `queue`.", json_schema_extra=_lengths(MAX_QUEUE_CHARS)),
    AfterValidator(_check_queue),
]
TeamName = Annotated[
    str,
    Field(description="An Airflow team.", json_schema_extra=_lengths(MAX_TEAM_CHARS)),
    AfterValidator(_check_team),
]
MAX_REASON_CHARS = 500
Reason = Annotated[
    str,
    Field(max_length=MAX_REASON_CHARS, description="Why; kept in the audit.", json_schema_extra={"minLength": 1}),
    AfterValidator(_check_said),
]
OptionalReason = Annotated[
    str, Field(max_length=MAX_REASON_CHARS, description="Why; kept in the audit."), AfterValidator(check_line)
]
TokenName = Annotated[
    str,
    Field(max_length=120, description="Whose the token is.", json_schema_extra={"minLength": 1}),
    AfterValidator(_check_said),
]


def task_hostname(worker: str, site: str) -> str:
    """`worker.site`. Both are DNS labels, so it has the form of a host's name and can be taken apart again."""
    return f"{worker}.{site}"


def worker_and_site(hostname: str) -> tuple[str, str | None]:
    """The names in a hostname. Workers of older versions report their name only, without a site."""
    worker, _, site = hostname.partition(".")
    if re.fullmatch(_LABEL, worker) and re.fullmatch(_LABEL, site):
        return worker, site
    return hostname, None
