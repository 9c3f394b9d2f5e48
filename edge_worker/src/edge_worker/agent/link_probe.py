"""Notices that the way to the relay has gone silent while a poll is parked on it.

Behind a black hole a parked poll looks alive until its hold is over, and what the relay wants is not heard for as long.
While jobs are here a tiny request asks every few seconds whether anybody answers, unless something else just did.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from edge_worker.jobs.registry import JobRegistry
from edge_worker.relay.call_result import CallError
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link

CHECK_EVERY_S = 3.0
PATIENCE_S = 2.0
"""What takes longer casts doubt on the link. It is waited for all the same: a slow way gets its connection thereby."""


@dataclass
class LinkProbe:
    """Asks while jobs are here."""

    client: RelayClient
    link: Link
    table: JobRegistry
    jitter: Callable[[], float] = random.random

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S * (0.8 + 0.4 * self.jitter()))
            if len(self.table) and self.link.is_proven and self.link.unheard_s >= CHECK_EVERY_S / 2:
                await self._check()

    async def _check(self) -> None:
        asking = asyncio.create_task(self._ask(), name="link-check")
        try:
            await asyncio.wait({asking}, timeout=PATIENCE_S)
            if not asking.done():
                self.link.suspect(f"the relay did not answer within {PATIENCE_S:g} s")
            await asking
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        try:
            await self.client.check()
        except CallError as error:
            self.link.suspect(str(error))
