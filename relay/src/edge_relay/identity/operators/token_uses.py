"""When each access token was last used: written in the background, at most once an hour for each token.

Best effort: it never delays or fails the call that used the token.
"""

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import structlog

from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_relay.identity.operators.access_tokens import AccessTokenStore, token_id
from edge_schemas.admin.access import AccessTokenEntry

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=1)
MAX_TOKENS = 1000
"""So many tokens are remembered, and may wait to be written. Beyond it a use is written again, or not at all."""


class TokenUses:
    """Writes the uses. Run `run()` in a task group."""

    def __init__(self, store: AccessTokenStore) -> None:
        self._store = store
        self._noted: OrderedDict[str, datetime] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[str, datetime]] = asyncio.Queue(MAX_TOKENS)

    def note(self, token_hash: str, entry: AccessTokenEntry) -> None:
        """A call was made with this token."""
        now = datetime.now(UTC)
        last = max((one for one in (entry.last_used_at, self._noted.get(token_hash)) if one is not None), default=None)
        if (last is not None and now - last < EVERY) or self._waiting.full():
            return
        self._noted[token_hash] = now
        self._noted.move_to_end(token_hash)
        if len(self._noted) > MAX_TOKENS:
            self._noted.popitem(last=False)
        self._waiting.put_nowait((token_hash, now))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            token_hash, used_at = await self._waiting.get()
            try:
                await self._store.record_use(token_hash, now=used_at)
            except (BrokerUnavailable, JetStreamError) as error:
                log.warning("token_use_not_written", token=token_id(token_hash), error=str(error))
