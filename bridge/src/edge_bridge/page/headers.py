"""The headers that pass in each direction, and those that the page adds. Pure."""

from collections.abc import Mapping
from urllib.parse import quote

from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.routes import PROBLEM_TYPE

TO_RELAY = ("accept", "content-type", "if-none-match", "last-event-id", "x-request-id")
"""Of a browser's request. Everything else stays here: cookies, credentials, and whom it claims to act for."""
FROM_RELAY = ("allow", "cache-control", "etag", "retry-after", "x-request-id")
TYPES = frozenset({"application/json", PROBLEM_TYPE, "text/event-stream"})
"""Of answers that pass as they are. Any other becomes plain text: a browser must run nothing that a relay sends."""
MAX_HEADER_CHARS = 1000
MAX_NAME_BYTES = 512
STRICT = "default-src 'none'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
"""For all that is no file of the dashboard."""
_SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


def to_relay(given: Mapping[str, str], *, user: str, role: Role, address: str | None = None) -> dict[str, str]:
    """The headers of a call to the relay, without the credential.

    Args:
        given: The browser's.
        user: For whom the call is made.
        role: The most that they may do.
        address: Where they are.
    """
    sent = {name: given[name] for name in TO_RELAY if name in given and len(given[name]) <= MAX_HEADER_CHARS}
    name = user.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    if address is not None:
        sent["X-Forwarded-For"] = address
    return {
        **sent,
        "Accept-Encoding": "identity",
        routes.ACTING_FOR_HEADER: quote(name, safe=""),
        routes.ACTING_AS_HEADER: str(role),
    }


def from_relay(given: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer to the browser: it is data, whatever the relay says of it."""
    kind = given.get("content-type", "")
    passed = {name: given[name] for name in FROM_RELAY if name in given}
    return {**own(), "content-type": kind if media_type(kind) in TYPES else "text/plain; charset=utf-8"} | passed


def media_type(content_type: str) -> str:
    """Without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def own() -> dict[str, str]:
    """The headers of an answer of this room itself."""
    return {"content-security-policy": STRICT, "cache-control": "no-store", **_SAFE}
