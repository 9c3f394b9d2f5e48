"""The entry of each worker in `edge_workers`: its last poll, and which of its polls counts."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import ValidationError

from edge_broker.audited_bucket import AuditedBucket, carry, pending_event
from edge_broker.bucket import DELETE_MARK, Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import WORKERS_BUCKET, kv_subject, worker_notice
from edge_relay.stores.last_arrivals import LastArrivals, StoredEntry
from edge_relay.stores.write_rounds import WriteRounds
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.life import agents
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.worker_entry import WorkerEntry

log = structlog.get_logger(__name__)

PATIENCE_S = 8.0
"""How long an arrival retries while a broker changes its leader."""
LEAVE_S = 2.0
ARRIVALS_AT_ONCE = 64
"""After an outage all workers poll at the same moment. More writes at a time would only make each one slower, until
they fail and are repeated."""
MARK_LIFE = timedelta(days=1)
"""How long the mark of a deleted entry is kept, for watches that were cut."""
MAX_LEAVING = 64
"""When thousands of connections close at once, most are not marked: a takeover then waits for a full poll timeout."""
_PROBE_KEY = "-"
"""The name of no worker; only delete markers are written to it."""

Change = Callable[[WorkerEntry | None], WorkerEntry | None]
"""From the entry as stored to the one to store; None, or the same object, if there is nothing to store."""


class WorkerStore:
    """Entries of workers, read through the stream leader and written by compare-and-swap."""

    def __init__(self, broker: Broker, *, patience_s: float = PATIENCE_S) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, WORKERS_BUCKET)
        self._audited = AuditedBucket(broker, WORKERS_BUCKET)
        self._patience_s = patience_s
        self._leaving = 0
        self._arriving = asyncio.Semaphore(ARRIVALS_AT_ONCE)
        self._last = LastArrivals()
        self._rounds = WriteRounds()
        self.written_at = float("-inf")
        """When the last entry that was stored had been sent, in monotonic seconds."""

    async def get(self, worker: str) -> WorkerEntry | None:
        """The last poll of a worker, or None if it never polled.

        Raises:
            BrokerUnavailable: No answer.
        """
        return _parse((await self._bucket.get(worker)).value)

    async def probe(self) -> None:
        """Check whether an entry could be written: a server with a full disk still serves reads.

        Raises:
            BrokerUnavailable: No poll can arrive at the moment.
            JetStreamError: No poll can arrive until the stream is repaired.
        """
        await self._broker.store(kv_subject(WORKERS_BUCKET, _PROBE_KEY), b"", DELETE_MARK)

    async def arrive(self, new: WorkerEntry, *, superseded_by: int | None) -> StoredEntry:
        """Make an arriving poll the one that counts, and wake older ones wherever they are parked.

        A poll that only continues the worker's last one is written together with others, a moment later.

        Raises:
            EdgeError: `superseded`: a newer poll has arrived.
            BrokerUnavailable: Not written within `patience_s`.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                await self._broker.wait_connected()
                if self._last.is_routine(new.worker, new.agent):
                    await self._rounds.wait()
                async with self._arriving:
                    stored = await self._arrive(new, superseded_by)
        except TimeoutError:
            raise BrokerUnavailable(f"the poll could not be written within {self._patience_s:g} s") from None
        self._last.keep(stored)
        return stored

    def answered_empty(self, worker: str, arrival: str) -> None:
        """This poll was answered, and there was nothing to send: the worker's next poll only continues it."""
        self._last.answered_empty(worker, arrival)

    async def _arrive(self, new: WorkerEntry, superseded_by: int | None) -> StoredEntry:
        last = self._last.take(new.worker)
        stored = None if last is None else await self._arrive_after(last, new, superseded_by)
        if last is None or stored is None:
            stored = await self._change(new.worker, lambda now: agents.arrive(now, new, superseded_by=superseded_by))
        elif agents.is_same_agent(last.entry.agent, new.agent):
            return stored  # its last poll arrived here, so that none is parked at another replica
        await self._broker.publish(worker_notice(new.worker), new.agent.arrival.encode())
        return stored or StoredEntry(new, 0)

    async def _arrive_after(self, last: StoredEntry, new: WorkerEntry, superseded_by: int | None) -> StoredEntry | None:
        """Write an arrival without a read, if the worker's last poll arrived here too; None if that was not possible.

        What was written here last may be outdated: only a swap that succeeds proves that it is not.
        """
        try:
            after = agents.arrive(last.entry, new, superseded_by=superseded_by)
            return None if after is last.entry else await self._put(after, last.revision)
        except (EdgeError, RevisionConflict, BrokerUnavailable) as error:
            log.debug("worker_entry_read_again", worker=new.worker, error=repr(error))
            return None

    async def leave(self, worker: str, arrival: str) -> None:
        """Mark that the connection of this poll was closed before its answer. Best effort, for some seconds at most."""
        if self._leaving >= MAX_LEAVING:
            return
        self._leaving += 1
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._change(worker, lambda now: None if now is None else agents.leave(now, arrival))
        except (BrokerUnavailable, TimeoutError) as error:
            log.debug("leave_not_marked", worker=worker, error=repr(error))
        finally:
            self._leaving -= 1

    async def forget(self, worker: str) -> None:
        """Delete the last poll of a worker that was removed.

        Raises:
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        self._last.take(worker)
        while (stored := await self._bucket.get(worker)).value is not None:
            with suppress(RevisionConflict):
                await self._bucket.delete(worker, revision=stored.revision, mark_life=MARK_LIFE)

    async def resolve_conflict(self, worker: str, *, keep_newer: bool, event: AuditEvent) -> bool:
        """Write which of two agents is the worker, with the audit's event, and wake both; False without a conflict.

        Raises:
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        in_conflict = False
        while (entry := _parse((stored := await self._audited.get(worker)).value)) is not None and entry.conflict:
            after = agents.resolve_conflict(entry, keep_newer=keep_newer, at=datetime.now(UTC))
            with suppress(RevisionConflict):
                await self._audited.put(worker, _dump(after), revision=stored.revision, event=event)
                in_conflict = True
                break
        await self._broker.publish(worker_notice(worker))
        return in_conflict

    async def _change(self, worker: str, change: Change) -> StoredEntry | None:
        """Swap an entry; returns it as it stands afterwards, None if there is none."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        delay_s = 0.05
        while True:
            try:
                return await self._swap(worker, change)
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311  # spreads racing writers, nothing secret
            except BrokerUnavailable:
                if asyncio.get_running_loop().time() + delay_s > deadline:
                    raise
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311
                delay_s = min(delay_s * 2, 1.0)

    async def _swap(self, worker: str, change: Change) -> StoredEntry | None:
        stored = await self._bucket.get(worker)
        before = _parse(stored.value)
        after = change(before)
        if after is None or after is before:
            return None if before is None else StoredEntry(before, stored.revision)
        event = pending_event(stored.value)  # of `resolve_conflict`: a poll does not wait for the audit
        written = await self._put(after, stored.revision, event)
        return written if event is None else StoredEntry(after, 0)

    async def _put(self, entry: WorkerEntry, revision: int, event: AuditEvent | None = None) -> StoredEntry:
        value, sent_at = carry(_dump(entry), event), time.monotonic()
        stored = StoredEntry(entry, await self._bucket.put(entry.worker, value, revision=revision))
        self.written_at = max(self.written_at, sent_at)
        return stored


def _dump(entry: WorkerEntry) -> bytes:
    return entry.model_dump_json(exclude_none=True).encode()


def _parse(value: bytes | None) -> WorkerEntry | None:
    if value is None:
        return None
    try:
        return WorkerEntry.model_validate_json(value)
    except ValidationError as error:
        # Perhaps written by another version. It must not lock the worker out: the next poll overwrites it.
        log.warning("worker_entry_unreadable", errors=error.error_count())
        return None
