"""Whether the relay limits the page's calls to the rights of the user: checked before any call of a user.

A token that was not made for Airflow has the rights of its own role in each call, whoever makes it. With one, a viewer
of Airflow would be the relay's admin. So the relay must show first that it acts for the user the page names.
"""

import asyncio
import json
import time

from edge_bridge.page.headers import to_relay
from edge_bridge.page.relay_client import Call, RelayClient, RelayUnusable
from edge_bridge.page.settings import NEW_TOKEN, PageSettings
from edge_schemas.admin.access import Role, SignedInBy
from edge_schemas.wire import routes

CHECKED_FOR_S = 60.0
FAILED_FOR_S = 1.0
"""So long everybody gets the same error: many who ask a relay that does not answer would wait one after the other."""
PROBE_USER = "edge-relay-page"


class RelayTrust:
    """Remembers the check for a minute, for the settings that it was made with."""

    def __init__(self, relay: RelayClient) -> None:
        self._relay = relay
        self._lock = asyncio.Lock()
        self._checked: tuple[PageSettings, float] | None = None
        self._failed: tuple[str, float] | None = None

    async def require(self) -> None:
        """Check, if that is due.

        Raises:
            EdgeError: `relay_unavailable`: it can't be reached, or its token must not be used; `rate_limited`.
        """
        async with self._lock:
            if self._failed is not None and time.monotonic() - self._failed[1] < FAILED_FOR_S:
                raise RelayUnusable(self._failed[0])
            try:
                await self._require()
            except RelayUnusable as error:
                self._failed = (str(error), time.monotonic())
                raise

    async def _require(self) -> None:
        settings = await self._relay.settings()
        now = time.monotonic()
        if self._checked is None or self._checked[0] is not settings or now - self._checked[1] > CHECKED_FOR_S:
            await self._check()
            self._checked = (settings, now)

    async def _check(self) -> None:
        answer = await self._relay.ask(Call("GET", routes.ADMIN_SESSION, probe_headers()))
        if why := distrust(answer.status, answer.body):
            self._relay.doubt_settings()
            raise RelayUnusable(why)


def probe_headers() -> dict[str, str]:
    """Of a call to `routes.ADMIN_SESSION`, without the credential: for a user who may do little."""
    return to_relay({}, user=PROBE_USER, role=Role.VIEWER)


def distrust(status: int, body: bytes) -> str | None:
    """Why the answer to that call shows that the page must not be used, and what to do; None if all is well."""
    if status == 404:
        return "the relay is older than the page and has no such API: upgrade the relay"
    if status >= 500 or status == 429:
        return f"the relay answers with status {status} at the moment: see its log"
    session = _session(body) if status == 200 else {}
    if session.get("by") != SignedInBy.AIRFLOW or session.get("role") != Role.VIEWER:
        return f"the access token was not made for Airflow, so users would not be limited to their rights: {NEW_TOKEN}"
    return None


def _session(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
