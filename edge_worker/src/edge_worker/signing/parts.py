"""Builds the parts of an agent that have to do with signed work."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.wire.workers import Enrollment
from edge_worker.relay.client import RelayClient
from edge_worker.settings import Settings
from edge_worker.signing.key_refresh import KeyRefresh
from edge_worker.signing.pinned_keys import PinnedKeys
from edge_worker.signing.ran_jobs import RanJobs
from edge_worker.signing.signed_work import SignedWork


@dataclass(frozen=True)
class Signing:
    """Of one agent.

    Attributes:
        work: Decides about grants.
        refresh: Keeps the trusted keys current; None if the owner wants no signatures checked.
    """

    work: SignedWork
    refresh: KeyRefresh | None

    async def run(self) -> None:
        """Keep the keys current, until cancelled."""
        if self.refresh is None:
            await asyncio.Event().wait()
        else:
            await self.refresh.run()


def signing_of(
    state_dir: Path, settings: Settings, client: RelayClient, enrollment: Callable[[], Enrollment]
) -> Signing:
    """The parts of an agent.

    Raises:
        SettingsError: The owner's keys, or those in the state folder, can't be used.
    """
    pinned = PinnedKeys(state_dir, settings)
    refresh = KeyRefresh(pinned, client)
    ran = RanJobs(state_dir, max_age_s=settings.signed_max_age_s, now=time.time())
    work = SignedWork(pinned, ran, enrollment, settings.signed_max_age_s, time.time, refresh.soon)
    return Signing(work, None if settings.signed_jobs == "off" else refresh)
