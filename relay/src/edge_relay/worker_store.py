"""What is known of each worker's last poll, in `edge_workers`: its heartbeat, and which of its polls counts."""

import asyncio
import random

import structlog
from pydantic import ValidationError

from edge_schemas.broker.bucket import Bucket, RevisionConflict
from edge_schemas.broker.connection import Broker, BrokerUnavailable
from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.polls import WorkerEntry
from edge_schemas.subjects import WORKERS_BUCKET, worker_notice

log = structlog.get_logger(__name__)

PATIENCE_S = 8.0
"""How long an arrival outlasts a broker that is changing its leader."""


class WorkerStore:
    """Entries of workers, read through the stream leader and written by compare-and-swap."""

    def __init__(self, broker: Broker, *, patience_s: float = PATIENCE_S) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, WORKERS_BUCKET)
        self._patience_s = patience_s

    async def get(self, worker: str) -> WorkerEntry | None:
        """The last poll of a worker, or None if it never polled.

        Raises:
            BrokerUnavailable: No answer.
        """
        return _parse((await self._bucket.get(worker)).value)

    async def arrive(self, entry: WorkerEntry) -> None:
        """Make an arriving poll the one that counts, and wake older ones wherever they are parked.

        Raises:
            EdgeError: `superseded`: a newer poll has arrived.
            BrokerUnavailable: Not within the patience.
        """
        deadline = asyncio.get_running_loop().time() + self._patience_s
        delay_s = 0.05
        while True:
            try:
                await self._write(entry)
                break
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311  # spreads racing writers, nothing secret
            except BrokerUnavailable:
                if asyncio.get_running_loop().time() + delay_s > deadline:
                    raise
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311
                delay_s = min(delay_s * 2, 1.0)
        await self._broker.publish(worker_notice(entry.worker), entry.arrival.encode())

    async def _write(self, entry: WorkerEntry) -> None:
        stored = await self._bucket.get(entry.worker)
        current = _parse(stored.value)
        if current is not None:
            if current.arrival == entry.arrival:
                return
            if supersedes(current, entry):
                raise superseded()
        value = entry.model_dump_json(exclude_none=True).encode()
        await self._bucket.put(entry.worker, value, revision=stored.revision)


def supersedes(one: WorkerEntry, other: WorkerEntry) -> bool:
    """Whether `one` is newer. Of two with the same numbers the later arrival is a repeat that takes over."""
    return (one.incarnation, one.seq) > (other.incarnation, other.seq)


def superseded() -> EdgeError:
    """The answer to a poll that no longer counts."""
    return EdgeError(ErrorCode.SUPERSEDED)


def _parse(value: bytes | None) -> WorkerEntry | None:
    if value is None:
        return None
    try:
        return WorkerEntry.model_validate_json(value)
    except ValidationError as error:
        # Written by another version, perhaps. A worker must not be locked out by it: the next poll overwrites it.
        log.warning("worker_entry_unreadable", errors=error.error_count())
        return None
