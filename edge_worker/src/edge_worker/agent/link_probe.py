"""Detects that the network path to the relay has gone silent while a poll is held open.

Behind a black hole a held poll looks alive until its timeout, and directives of the relay do not arrive for as long.
While jobs are here, a small request checks every few seconds that the relay answers, unless it has just answered
another call.
"""

import asyncio
import random
from collections.abc import Callable, Sized
from dataclasses import dataclass

from edge_worker.relay.call_result import CallError
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link

PROBE_EVERY_S = 3.0
PATIENCE_S = 2.0
"""A slower answer makes the link doubtful. The probe still waits for it: a slow path gets its connection this way."""


@dataclass
class LinkProbe:
    """Sends the probes while jobs are here."""

    client: RelayClient
    link: Link
    table: Sized
    jitter: Callable[[], float] = random.random

    async def run(self) -> None:
        """Probes until cancelled."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S * (0.8 + 0.4 * self.jitter()))
            if len(self.table) and self.link.is_proven and self.link.silence_s >= PROBE_EVERY_S / 2:
                await self._probe()

    async def _probe(self) -> None:
        ping = asyncio.create_task(self._ping(), name="link-ping")
        try:
            await asyncio.wait({ping}, timeout=PATIENCE_S)
            if not ping.done():
                self.link.suspect(f"the relay did not answer within {PATIENCE_S:g} s")
            await ping
        finally:
            ping.cancel()

    async def _ping(self) -> None:
        try:
            await self.client.ping()
        except CallError as error:
            self.link.suspect(str(error))
