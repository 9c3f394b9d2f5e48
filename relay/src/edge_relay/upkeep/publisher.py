"""Stores the messages of submitted jobs, and removes those of jobs that ended before they were started.

What is known here of a job may be outdated, so its record is read first, through the stream leader. Every replica does
this: a message is stored once for its subject and its id.
"""

import asyncio
import random
import uuid
from datetime import UTC, datetime
from enum import Enum

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError, PayloadTooLarge, StreamFull
from edge_broker.jetstream.append import publish_once
from edge_broker.jetstream.stream_info import purge
from edge_broker.records import RecordStore, RecordUnreadable
from edge_broker.subjects import JOBS, job_subject
from edge_relay.upkeep.figures import UpkeepFigures
from edge_relay.upkeep.submitted_job import SubmittedJob, message_id
from edge_schemas.life.model import JobRecord, JobState
from edge_upkeep.messages import Consumers

log = structlog.get_logger(__name__)

AT_ONCE = 16
LONGEST_DELAY_S = 5.0
REFUSED_DELAY_S = 10.0


class _Do(Enum):
    PUBLISH = "publish"
    PUBLISH_AGAIN = "publish again"
    REMOVE = "remove"


class MessagePublisher:
    """The messages that are due. Run `run()` in a task group."""

    def __init__(self, broker: Broker, records: RecordStore, figures: UpkeepFigures) -> None:
        self._broker = broker
        self._records = records
        self._figures = figures
        self._pending: dict[str, _Do] = {}
        self._subjects: dict[str, str] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self.consumers = Consumers()
        broker.on_connection(self.consumers.clear)

    def publish(self, job: str) -> None:
        """The message of this job is due."""
        self._put(job, _Do.PUBLISH)

    def publish_again(self, job: str) -> None:
        """The message of this job is missing: with a new id, as the server would drop a duplicate."""
        if job not in self._pending:
            self._put(job, _Do.PUBLISH_AGAIN)

    def remove(self, job: SubmittedJob) -> None:
        """This job has ended and needs no message."""
        self._subjects[job.id] = job_subject(job.team, job.queue, job.kind, job.id)
        self._put(job.id, _Do.REMOVE)

    async def run(self) -> None:
        """Store and remove until cancelled; what a former run has not finished comes first."""
        self._queue = asyncio.Queue()
        for job in self._pending:
            self._queue.put_nowait(job)
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._work(), name=f"upkeep-publisher-{number}")

    def _put(self, job: str, do: _Do) -> None:
        if job not in self._pending:
            self._queue.put_nowait(job)
        self._pending[job] = do

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            delay_s = 0.1
            while not await self._try(job):
                # Repeated here, not at the end of the queue: jobs keep their order while NATS is unreachable.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
                delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _try(self, job: str) -> bool:
        """Whether this worker is done with the job: its message is stored or removed, or due later."""
        do = self._pending[job]
        try:
            await self._broker.wait_connected()
            await self._do(job, do)
        except BrokerUnavailable as error:
            log.debug("submitted_job_waits", job=job, error=str(error))
            return False
        except JetStreamError as error:
            log.warning("submitted_job_not_published", job=job, error=str(error))
            if isinstance(error, StreamFull):
                return False
            # It may concern one queue only: the jobs of the others must not wait.
            asyncio.get_running_loop().call_later(REFUSED_DELAY_S, self._queue.put_nowait, job)
            return True
        except (PayloadTooLarge, RecordUnreadable) as error:
            # Its producer or an operator has to cancel it: no replica can do more with it.
            log.exception("submitted_job_put_aside", job=job, error=str(error))
            self._figures.put_aside("message")
        except Exception:
            # A fault of ours. The other jobs must not suffer from it.
            log.exception("job_put_aside", step="message", job=job)
            self._figures.put_aside("message")
        if self._pending.get(job) is do:
            del self._pending[job]
            self._subjects.pop(job, None)
        else:
            self._queue.put_nowait(job)
        return True

    async def _do(self, job: str, do: _Do) -> None:
        if do is _Do.REMOVE:
            await purge(self._broker, JOBS, self._subjects[job])
            return
        record = await self._records.get(job)
        if record is None or not _may_have_message(record) or record.job is None:
            return  # the watch shows it soon
        await self.consumers.ensure(self._broker, record.team, record.queue, record.kind)
        id_of_message = message_id(job, record.attempt, record.waits_since)
        if do is _Do.PUBLISH_AGAIN:
            id_of_message = f"{id_of_message}.{uuid.uuid4().hex[:12]}"
        message = record.job.model_copy(update={"attempt": record.attempt + 1})
        payload = message.model_dump_json(exclude_none=True).encode()
        subject = job_subject(record.team, record.queue, record.kind, job)
        await publish_once(self._broker, subject, payload, message_id=id_of_message)
        self._figures.published(again=do is _Do.PUBLISH_AGAIN)
        log.debug("submitted_job_published", job=job, queue=record.queue, message_id=id_of_message)


def _may_have_message(record: JobRecord) -> bool:
    is_waiting = record.state is JobState.WAITING and record.parked is None
    return is_waiting and (record.not_before is None or record.not_before <= datetime.now(UTC))
