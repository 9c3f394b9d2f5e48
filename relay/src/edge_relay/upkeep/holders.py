"""The submitted jobs that are held, and the contact with their holders: what give-ups are decided by.

The entries of workers are those that the relay follows anyway. Only those of holders of submitted jobs are parsed here.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog
from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.subscriptions import Message
from edge_broker.subjects import WORKERS_BUCKET
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.metrics.fleet import Fleet
from edge_relay.upkeep.submitted_job import SubmittedJob
from edge_schemas.wire.worker_entry import RelayBeat, WorkerEntry
from edge_upkeep.contact.contact_clock import ContactClock
from edge_upkeep.contact.worker_polls import Poll, read_poll
from edge_upkeep.give_up import HeldJob

log = structlog.get_logger(__name__)


class Holders:
    """See `edge_upkeep.give_up.ContactView`. It may be behind: the record decides.

    Args:
        broker: Reads entries through the leader.
        mirror: Whether a new record was written just now, or is listed.
        fleet: The entries of all workers.
        clock: Monotonic seconds.
    """

    def __init__(
        self, broker: Broker, mirror: RecordMirror, fleet: Fleet, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._mirror = mirror
        self._fleet = fleet
        self._clock = clock
        self._bucket = Bucket(broker, WORKERS_BUCKET)
        self._contact = ContactClock()
        self._held: dict[str, SubmittedJob] = {}
        self._jobs_of: defaultdict[str, set[str]] = defaultdict(set)
        self._entries: dict[str, WorkerEntry | None] = {}
        self._arrivals: dict[str, str] = {}
        self._was_listed = False
        mirror.on_current(self._listed)
        fleet.on_entry(self.entry_stored)

    def unfinished(self) -> Iterable[HeldJob]:
        """The jobs with a holder."""
        return list(self._held.values())

    def worker(self, name: str) -> WorkerEntry | None:
        """The last known poll of a holder."""
        return self._entries.get(name)

    def silent_for(self, record: HeldJob) -> float:
        """Seconds without a poll of the holder that names the job, as far as they count; see `ContactClock`."""
        self.tick()
        worker = "" if record.holder is None else record.holder.worker
        return self._contact.silent_for((worker, record.id), self._clock())

    @property
    def relay_time(self) -> datetime | None:
        """What the slowest clock of the relays shows now; None if none is known."""
        return self._contact.relays.earliest(self._clock())

    @property
    def replicas(self) -> list[str]:
        """The names of the replicas that have sent a beat lately."""
        return self._contact.relays.names(self._clock())

    def tick(self) -> None:
        """Check whether NATS is connected; call it at least once a second."""
        self._contact.tick(self._clock(), connected=self._broker.connected)

    async def refresh_worker(self, worker: str) -> None:
        """Read the worker's entry from the stream leader: a watch may lose its consumer without notice.

        Raises:
            BrokerUnavailable: Try again later.
        """
        value = (await self._bucket.get(worker)).value
        if value is not None:
            self.entry_stored(worker, value)
        elif worker in self._entries:
            self._entries[worker] = None

    async def on_relay_beat(self, message: Message) -> None:
        """A relay, perhaps this one, has reported that workers can reach it."""
        try:
            self._contact.record_beat(self._clock(), RelayBeat.model_validate_json(message.data))
        except ValidationError as error:
            log.warning("relay_beat_unreadable", errors=error.error_count())

    def update(self, before: SubmittedJob | None, after: SubmittedJob | None) -> None:
        """A job before and after a change of its record; None if it is not known, or not unfinished."""
        holder = None if after is None else after.holder
        if (
            before is not None
            and before.holder is not None
            and (holder is None or holder.worker != before.holder.worker)
        ):
            self._forget(before.holder.worker, before.id)
        if after is not None and holder is not None:
            self._held[after.id] = after
            if before is None or before.holder != holder:
                self._begin(holder.worker, after.id)

    def entry_stored(self, worker: str, value: bytes) -> None:
        """An entry, which is of interest only if its worker holds a submitted job."""
        jobs = self._jobs_of.get(worker)
        if not jobs:
            return
        contact = read_poll(value, _log_unreadable)
        self._entries[worker] = contact if isinstance(contact, WorkerEntry) else None
        if contact is None or self._arrivals.get(worker) == contact.agent.arrival:
            return
        self._arrivals[worker] = contact.agent.arrival
        named = jobs.intersection(job.id for job in contact.jobs)
        for job in named:
            if self._fleet.complete.is_set():
                self._contact.record_contact((worker, job), self._clock())
            else:
                self._record_stored(worker, job, contact)

    def _begin(self, worker: str, job: str) -> None:
        """A call of the worker made it the holder, and its next poll names the job."""
        is_new = worker not in self._jobs_of
        self._jobs_of[worker].add(job)
        if is_new:
            self._entries[worker] = self._fleet.entry(worker)
        if self._mirror.complete.is_set():
            self._contact.record_contact((worker, job), self._clock())
        elif self._was_listed:
            self._contact.record_undated_contact((worker, job), self._clock())
        elif (entry := self._entries[worker]) is not None and any(one.id == job for one in entry.jobs):
            self._record_stored(worker, job, entry)
        # Otherwise no poll has named it that is known: its silence counts from when contact has been possible.

    def _record_stored(self, worker: str, job: str, entry: Poll) -> None:
        self._contact.record_stored_contact((worker, job), self._clock(), entry.relay, entry.agent.last_poll_at)

    def _forget(self, worker: str, job: str) -> None:
        del self._held[job]
        self._contact.forget((worker, job))
        jobs = self._jobs_of[worker]
        jobs.discard(job)
        if not jobs:
            del self._jobs_of[worker]
            self._entries.pop(worker, None)
            self._arrivals.pop(worker, None)

    def _listed(self) -> None:
        self._was_listed = True


def _log_unreadable(error: ValidationError) -> None:
    log.debug("worker_entry_unreadable", errors=error.error_count())
