"""Paths of the Execution API as they may cross relay, gate and local gateway: decoded once, checked, forwarded raw."""

import re
from collections.abc import Sequence
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from edge_schemas.wire.errors import EdgeError, ErrorCode

_RAW = re.compile(r"^[A-Za-z0-9._~!$&'()*+,;=:@%/\[\]^|-]+$")
"""Characters of a path, and four more that Airflow's client does not encode, as in a variable named `a[1]`."""
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
MAX_PATH_CHARS = 4096


class CallClass(StrEnum):
    """The subject of a call, for metrics: few values, whatever a task puts into a path."""

    HEARTBEAT = "heartbeat"
    RUN = "run"
    STATE = "state"
    XCOM = "xcom"
    CONNECTION = "connection"
    VARIABLE = "variable"
    RTIF = "rtif"
    ASSET = "asset"
    OTHER = "other"


_OF_TASK_INSTANCE = {
    "heartbeat": CallClass.HEARTBEAT,
    "run": CallClass.RUN,
    "state": CallClass.STATE,
    "rtif": CallClass.RTIF,
}
_OF_FIRST = {
    "xcoms": CallClass.XCOM,
    "connections": CallClass.CONNECTION,
    "connection-tests": CallClass.CONNECTION,
    "variables": CallClass.VARIABLE,
    "assets": CallClass.ASSET,
    "asset-events": CallClass.ASSET,
}


def call_class(segments: Sequence[str]) -> CallClass:
    """The class of a call by its decoded path, allowed or not; see `split_path`."""
    match segments:
        case ["task-instances", _, last]:
            return _OF_TASK_INSTANCE.get(last, CallClass.OTHER)
        case ["store", "asset", *_]:
            return CallClass.ASSET
        case [first, *_]:
            return _OF_FIRST.get(first, CallClass.OTHER)
        case _:
            return CallClass.OTHER


def split_path(raw: str) -> tuple[str, ...]:
    """The decoded segments of a raw, percent-encoded path without its leading slash.

    A path that two servers could read differently is rejected: dot segments, raw or encoded, empty segments,
    backslashes, control characters, broken escapes and bytes that are not UTF-8. An encoded slash stays inside its
    segment; the caller must forward the raw path, never a re-encoded one.

    Raises:
        EdgeError: `invalid_request`.
    """
    if len(raw) > MAX_PATH_CHARS or not _RAW.match(raw) or _BROKEN_ESCAPE.search(raw):
        raise EdgeError(
            ErrorCode.INVALID_REQUEST, "the path is too long or holds characters that must be percent-encoded"
        )
    return tuple(_decode(segment) for segment in raw.split("/"))


def _decode(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path is not UTF-8") from None
    if any(part in {"", ".", ".."} for part in text.split("/")):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path holds an empty or a dot segment")
    if "\\" in text or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path holds a backslash or a control character")
    return text
