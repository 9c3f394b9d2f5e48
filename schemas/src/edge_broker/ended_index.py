"""The ended jobs of producers by queue and by label, for their lists.

An entry is written when the record of the job is moved to `edge_jobs_ended`, and expires as the record does. Until
then the watch of the records shows the job. So the index never grows beyond the jobs of a week, and a list reads its
page only.

Keys: `job.<queue>.<job>` holds the job's status without the result; `label.<queue>.<label>.<value>.<job>` only says
that there is such a job.
"""

import asyncio
from dataclasses import dataclass

from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.direct_get import read_batch
from edge_broker.subjects import ENDED_INDEX_BUCKET, kv_stream, kv_subject
from edge_schemas.life.model import JobRecord
from edge_schemas.producers.status import job_status
from edge_schemas.producers.submissions import JobStatus
from edge_schemas.wire.ids import encode_name

READ_TIMEOUT_S = 5.0
AT_ONCE = 16
MAX_PAGE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Ended jobs in the order in which they were moved.

    Attributes:
        last: The sequence after which the next page begins.
        more: There is a next page.
    """

    jobs: tuple[JobStatus, ...]
    last: int
    more: bool


class EndedIndex:
    """Writes and reads the index."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, ENDED_INDEX_BUCKET)

    async def add(self, record: JobRecord) -> None:
        """Write the entries of an ended job; may be repeated.

        Raises:
            JetStreamError: There is no room.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        status = job_status(record, result=False)
        if status is None:
            return
        value = status.model_dump_json(exclude_none=True).encode()
        await self._bucket.put(_job_key(record.queue, record.id), value)
        labels = (_label_key(record.queue, key, of, record.id) for key, of in status.labels.items())
        await asyncio.gather(*(self._bucket.put(key, b"-") for key in labels))

    async def page(self, queue: str, label: tuple[str, str] | None, *, after: int, limit: int) -> IndexPage:
        """A page of the ended jobs of a queue.

        Args:
            queue: Its name.
            label: Only jobs with this label, by key and value.
            after: `last` of the page before, else 0.
            limit: The most jobs.

        Raises:
            BrokerUnavailable: It could not be read in time.
        """
        pattern = _job_key(queue, "*") if label is None else _label_key(queue, *label, "*")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                batch = await read_batch(
                    self._broker,
                    kv_stream(ENDED_INDEX_BUCKET),
                    kv_subject(ENDED_INDEX_BUCKET, pattern),
                    after=after,
                    max_messages=limit,
                    max_bytes=MAX_PAGE_BYTES,
                )
                values = [message.data for message in batch.messages]
                if label is not None:
                    jobs = [message.subject.rpartition(".")[2] for message in batch.messages]
                    values = await self._values(queue, jobs)
        except TimeoutError:
            raise BrokerUnavailable("the ended jobs could not be read in time") from None
        last = batch.messages[-1].sequence if batch.messages else after
        found = (_parse(value) for value in values)
        return IndexPage(tuple(status for status in found if status is not None), last, batch.more)

    async def _values(self, queue: str, jobs: list[str]) -> list[bytes]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(job: str) -> bytes:
            async with limit:
                return (await self._bucket.get(_job_key(queue, job))).value or b""

        return list(await asyncio.gather(*map(one, jobs)))


def _parse(value: bytes) -> JobStatus | None:
    """None for what expired meanwhile, or what a later version wrote in another form: a list shows the rest."""
    try:
        return JobStatus.model_validate_json(value)
    except ValidationError:
        return None


def _job_key(queue: str, job: str) -> str:
    return f"job.{encode_name(queue)}.{job}"


def _label_key(queue: str, key: str, value: str, job: str) -> str:
    return f"label.{encode_name(queue)}.{encode_name(key)}.{encode_name(value)}.{job}"
