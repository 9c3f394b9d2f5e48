"""The keys of the identity provider, kept in memory: few reads, whatever callers send."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import jwt
import structlog

from edge_relay.sign_in.provider import Description, Provider, unavailable
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

FRESH_S = 3600.0
"""After this, description and keys are read again."""
USABLE_S = 24 * 3600.0
"""While the provider is unreachable, its keys are used for so long."""
AT_MOST_EVERY_S = 30.0
"""A key id that is not known causes a read at most so often: anybody can make up key ids."""
MAX_KEYS = 100


class ProviderKeys:
    """Description and keys of one provider."""

    def __init__(self, provider: Provider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._description: Description | None = None
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = self._tried_at = -USABLE_S
        self._reading = asyncio.Lock()

    async def description(self) -> Description:
        """The provider's addresses.

        Raises:
            EdgeError: `provider_unavailable`.
        """
        await self._refresh_if_old()
        if self._description is None:
            raise unavailable("it was not reached moments ago")
        return self._description

    async def key(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of this id; the only key if a token names none. None if there is no such key.

        Raises:
            EdgeError: `provider_unavailable`: no keys are known.
        """
        await self._refresh_if_old()
        if self._description is None:
            raise unavailable("it was not reached moments ago")
        found = self._find(key_id)
        if found is None and self._clock() - self._tried_at >= AT_MOST_EVERY_S:
            await self._refresh(self._tried_at)
            found = self._find(key_id)
        return found

    def _find(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _refresh_if_old(self) -> None:
        now = self._clock()
        wait_s = AT_MOST_EVERY_S if self._description is not None else 1.0
        if now - self._read_at >= FRESH_S and now - self._tried_at >= wait_s:
            await self._refresh(self._tried_at)

    async def _refresh(self, tried_at: float) -> None:
        """Read once for all callers that wait. After a failure the known keys are used for a time."""
        async with self._reading:
            if self._tried_at != tried_at:
                return  # another caller has read meanwhile
            self._tried_at = self._clock()
            try:
                description = await self._provider.describe()
                keys = parse_keys(await self._provider.keys(description.jwks_uri))
            except EdgeError as error:
                log.warning("provider_not_read", error=str(error))
                if self._clock() - self._read_at >= USABLE_S:
                    self._description, self._keys = None, {}
                    raise
                return
            self._description, self._keys, self._read_at = description, keys, self._clock()


def parse_keys(found: dict[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """The keys for signatures, by key id; keys of a kind that is not known are left out."""
    keys: dict[str | None, jwt.PyJWK] = {}
    listed = found.get("keys")
    for one in (listed if isinstance(listed, list) else [])[:MAX_KEYS]:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            keys[one.get("kid")] = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.debug("provider_key_not_read", error=repr(error))
    return keys
