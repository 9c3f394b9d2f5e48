"""Paths of the Execution API: how a path is decoded, carried to the gate, and encoded for Airflow's api-server.

Keys and names are free text in Airflow, and its server decodes a path before it looks for a route. So nothing is
refused here for its characters. A path is safe because of how it is carried:

1. The local gateway decodes what the task sent, once, as Airflow's server would (`decode_path`).
2. It encodes the text once, in a form that no proxy on the way rewrites (`carry`); the relay passes the form on.
3. The gate decodes that form (`split_path`), matches the parts with its rules, and encodes exactly these parts for the
   api-server (`encode_path`). The api-server decodes them to what the gate has matched, whatever the caller sent.
"""

import base64
import binascii
import itertools
import re
from collections.abc import Sequence
from enum import StrEnum
from urllib.parse import quote, unquote

from edge_schemas.wire.errors import EdgeError, ErrorCode

_ENCODED = re.compile(r"[!\"$->@-~]*")
"""Visible ASCII without the characters that end a path: question mark and number sign."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~:+@=,-]+")
"""A segment that proxies leave alone, if it is no dot segment."""
_DOTS = frozenset({"", ".", ".."})
_OPAQUE = "~"
"""Begins a path in base64url. No path of the Execution API begins so, and `carry` encodes one that did."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_SAFE = "!$&'()*+,;=:@"
"""Characters that need no encoding inside a segment, besides letters, digits and `_.-~`."""


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


def decode_path(raw: str) -> tuple[str, ...]:
    """The segments of a percent-encoded path without its leading slash, decoded once, as Airflow's server does.

    An encoded slash separates segments, a broken escape stands for itself, and bytes that are not UTF-8 become U+FFFD.

    Raises:
        EdgeError: `invalid_request`: no HTTP client sends such a path.
    """
    if not _ENCODED.fullmatch(raw):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path holds characters that must be percent-encoded")
    return tuple(unquote(raw).split("/"))


def carry(segments: Sequence[str]) -> str:
    """The form in which a path travels from the gateway to the gate: as it is if it is plain, else as one segment.

    Proxies merge slashes, resolve dots, decode or reject escapes: they do nothing to base64url.
    """
    if not segments[0].startswith(_OPAQUE) and all(_PLAIN.fullmatch(s) and s not in _DOTS for s in segments):
        return "/".join(segments)
    return _OPAQUE + base64.urlsafe_b64encode("/".join(segments).encode()).decode().rstrip("=")


def split_path(carried: str) -> tuple[str, ...]:
    """The decoded segments of a path as `carry` makes it; other percent-encoded paths are decoded, too.

    Raises:
        EdgeError: `invalid_request`.
    """
    if not carried.startswith(_OPAQUE):
        return decode_path(carried)
    packed = carried.removeprefix(_OPAQUE)
    try:
        if not _BASE64URL.fullmatch(packed):
            raise binascii.Error
        return tuple(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode().split("/"))
    except (binascii.Error, UnicodeDecodeError):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path is not UTF-8 in base64url") from None


def encode_path(segments: Sequence[str]) -> str:
    """The path for the api-server, which decodes it to exactly these segments.

    A slash next to an empty or a dot segment is encoded: no proxy in front of the api-server sees such a segment.
    """
    quoted = quote("/".join(segments), safe=_SAFE + "/").split("/")
    encoded = [quoted[0]]
    for before, segment in itertools.pairwise(quoted):
        encoded += ("%2F" if before in _DOTS or segment in _DOTS else "/", segment)
    return "".join(encoded)


def path_bytes(segments: Sequence[str], query: str) -> int:
    """The size of a path and its query to which limits apply; never more than in the form in which a task sent it."""
    return len("/".join(segments).encode()) + len(query)
