"""The headers that pass in each direction, and those that the page adds. Pure."""

from collections.abc import Mapping
from urllib.parse import quote

from edge_schemas.admin.access import Role
from edge_schemas.wire import routes

TO_RELAY = ("accept", "content-type", "if-none-match", "last-event-id", "x-request-id")
"""Of a browser's request. Everything else stays here: cookies, credentials, and whom it claims to act for."""
FROM_RELAY = ("allow", "cache-control", "content-type", "etag", "retry-after", "x-request-id")
MAX_HEADER_CHARS = 1000
MAX_NAME_BYTES = 512
STRICT = "default-src 'none'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
"""For what is no page of the relay's."""
_PAGE_IN_AIRFLOW = "frame-ancestors 'self'"
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}


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
    """The headers of the answer to the browser.

    The relay's own policy for its page stays as strict as it is, but Airflow's UI may show the page in a frame.
    """
    answer = {"cache-control": "no-store"} | {name: given[name] for name in FROM_RELAY if name in given}
    answer["content-security-policy"] = framed_by_airflow(given.get("Content-Security-Policy", STRICT))
    if (location := given.get("Location")) is not None and is_relative(location):
        answer["location"] = location
    return answer | _SAFE


def own(policy: str = STRICT) -> dict[str, str]:
    """The headers of an answer of this room itself."""
    return {"Content-Security-Policy": policy, "Cache-Control": "no-store", **_SAFE}


def framed_by_airflow(policy: str) -> str:
    """A policy under which pages of this origin, and no others, may show the document in a frame."""
    kept = [each.strip() for each in policy.split(";") if each.strip()]
    return "; ".join([*(each for each in kept if not each.lower().startswith("frame-ancestors")), _PAGE_IN_AIRFLOW])


def is_relative(location: str) -> bool:
    """Whether a redirect stays in the folder of the page, whatever host and prefix the browser knows it by."""
    return location.startswith(("./", "../#")) and "\\" not in location and ".." not in location.removeprefix("..")
