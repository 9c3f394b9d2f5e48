"""What operators see of workers."""

import asyncio
from datetime import UTC, datetime

from edge_relay.identity.credentials import Credentials
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.workers.summary import summary
from edge_schemas.wire.workers import (
    WorkerAccess,
    WorkerList,
    WorkerSummary,
)

_READS_AT_ONCE = 32


class WorkerAdministration:
    """Operators' access to workers."""

    def __init__(self, credentials: Credentials, entries: WorkerStore) -> None:
        self._credentials = credentials
        self._entries = entries

    async def list(self) -> WorkerList:
        """All workers that ever enrolled, with the content of their last poll."""
        limit = asyncio.Semaphore(_READS_AT_ONCE)

        async def summarise(access: WorkerAccess) -> WorkerSummary:
            async with limit:
                entry = await self._entries.get(access.worker)
                return summary(access, self._credentials.settings(access), entry, datetime.now(UTC))

        workers = sorted(self._credentials.workers(), key=lambda access: access.worker)
        return WorkerList(workers=tuple(await asyncio.gather(*map(summarise, workers))))
