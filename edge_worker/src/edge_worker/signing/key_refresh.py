"""Asks the relay for newer key sets: at the start, hourly, and soon after a job that an unknown key has signed."""

import asyncio
import random
import time

from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError
from edge_worker.relay.client import RelayClient
from edge_worker.signing.pinned_keys import PinnedKeys

EVERY_S = 3600.0
AFTER_FAILURE_S = 60.0
FRESH_S = 60.0
"""What the relay knows may be a minute old; so an answer that is younger settles nothing new."""

log = EventLog("edge_worker.signing.key_refresh")


class KeyRefresh:
    """Keeps the pinned keys current."""

    def __init__(self, pinned: PinnedKeys, client: RelayClient, *, fresh_s: float = FRESH_S) -> None:
        self._pinned = pinned
        self._client = client
        self._fresh_s = fresh_s
        self._wake = asyncio.Event()
        self._unknown_since: float | None = None
        self._answered_at = float("-inf")

    def soon(self) -> bool:
        """A job is signed by an unknown key. Returns whether newer keys may still come.

        They may until an answer is there that a relay gave long enough after the first such job.
        """
        now = time.monotonic()
        if self._unknown_since is None or now - self._unknown_since > EVERY_S:
            self._unknown_since = now
        self._wake.set()
        return self._answered_at < self._unknown_since + 2 * self._fresh_s

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            pause_s = await self._ask() * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, nothing secret
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
                await asyncio.sleep(min(pause_s, self._fresh_s / 4))
            except TimeoutError:
                pass
            self._wake.clear()

    async def _ask(self) -> float:
        """One call; returns the seconds until the next one."""
        try:
            sets = (await self._client.signing_keys()).sets
        except CallError as error:
            log.debug("signing_keys_unknown", reason=str(error))
            return AFTER_FAILURE_S
        if sets is None:
            return AFTER_FAILURE_S
        self._answered_at = time.monotonic()
        try:
            if self._pinned.offer(sets):
                self._unknown_since = None
        except OSError as error:
            log.warning("signing_keys_not_on_disk", error=str(error))
        return EVERY_S
