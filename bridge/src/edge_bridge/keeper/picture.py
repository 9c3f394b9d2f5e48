"""The unfinished jobs and the workers' contact, kept in memory. While NATS is away the last picture stays."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from edge_bridge.keeper.contact import ContactClock
from edge_schemas.broker.connection import Broker
from edge_schemas.broker.mirror import Mirror
from edge_schemas.polls import WorkerEntry
from edge_schemas.records import JobRecord, JobState
from edge_schemas.subjects import RECORDS_BUCKET, WORKERS_BUCKET

log = structlog.get_logger(__name__)


class Picture:
    """What the keeper knows without asking. It may be behind: whatever it suggests is decided on the record itself.

    Args:
        broker: Connected or not.
        clock: Monotonic seconds.
    """

    def __init__(self, broker: Broker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._records_mirror = Mirror(broker, RECORDS_BUCKET, self._take_record)
        self._workers_mirror = Mirror(broker, WORKERS_BUCKET, self._take_worker)
        self._records: dict[str, JobRecord] = {}
        self._arrivals: dict[str, str] = {}
        self._contact = ContactClock()

    async def run(self) -> None:
        """Follow both buckets, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._records_mirror.run(), name="keeper-records")
            group.create_task(self._workers_mirror.run(), name="keeper-workers")

    @property
    def complete(self) -> bool:
        """Both buckets have been listed since the connection was made."""
        return self._records_mirror.complete.is_set() and self._workers_mirror.complete.is_set()

    def unfinished(self) -> list[JobRecord]:
        """The jobs that have not ended, without what a worker needs to run them."""
        return list(self._records.values())

    def silent_for(self, worker: str) -> float:
        """Seconds since the worker's last poll; see `ContactClock`."""
        now = self._clock()
        self._contact.tick(now, connected=self._broker.connected)
        return self._contact.silent_for(worker, now)

    def tick(self) -> None:
        """Look whether NATS can be heard; call it about once a second."""
        self._contact.tick(self._clock(), connected=self._broker.connected)

    def _take_record(self, key: str, value: bytes | None) -> None:
        record = None if value is None else self._parse_record(key, value)
        if record is None or record.state is JobState.ENDED:
            self._records.pop(key, None)
        else:
            self._records[key] = record.model_copy(update={"job": None, "last_write": None})

    def _take_worker(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._arrivals.pop(key, None)
            self._contact.forget(key)
            return
        try:
            entry = WorkerEntry.model_validate_json(value)
        except ValidationError as error:
            log.warning("worker_entry_unreadable", worker=key, errors=error.error_count())
            return
        if self._arrivals.get(key) == entry.arrival:
            return
        # Only an entry that was there before we were is dated by the relay's clock.
        listed = not self._workers_mirror.complete.is_set()
        age_s = (datetime.now(UTC) - entry.last_poll_at).total_seconds() if listed else 0.0
        self._arrivals[key] = entry.arrival
        self._contact.heard(key, self._clock(), age_s=age_s)

    def _parse_record(self, key: str, value: bytes) -> JobRecord | None:
        try:
            return JobRecord.model_validate_json(value)
        except ValidationError as error:
            log.warning("record_unreadable", job=key, errors=error.error_count())
            return None
