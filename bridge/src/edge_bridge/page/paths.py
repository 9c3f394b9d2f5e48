"""Which path of the relay a path of the page stands for. Pure."""

from urllib.parse import quote

API = "/v1/admin"
MAX_PATH_CHARS = 2000
MAX_QUERY_BYTES = 8000
_HIDDEN = ("sign-in",)
"""Below `API`: a user of Airflow is signed in already."""


def relay_path(rest: str) -> str | None:
    """The encoded path at the relay; None if it leads nowhere.

    The decoded segments are checked and encoded again, so what the relay reads is what was checked here, however the
    browser encoded it.

    Args:
        rest: What follows `API`, decoded once.
    """
    if len(rest) > MAX_PATH_CHARS:
        return None
    segments = rest.split("/")
    if any(_is_bad(segment) for segment in segments) or segments[0] in _HIDDEN:
        return None
    return f"{API}/" + "/".join(quote(segment, safe="") for segment in segments)


def _is_bad(segment: str) -> bool:
    return segment in {"", ".", ".."} or "\\" in segment or any(not char.isprintable() for char in segment)


def is_safe_query(query: bytes) -> bool:
    """Whether a query, as it was sent, can be sent on unchanged."""
    return len(query) <= MAX_QUERY_BYTES and all(0x21 <= byte <= 0x7E and byte != 0x23 for byte in query)
