"""What happens to a message that arrives for a queue: a poll gets it, it returns to the queue, or it is put aside."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.consumer import PulledMessage
from edge_broker.jetstream.message import ack, nak
from edge_broker.subjects import parse_job_subject
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.pulls.deliveries import Delivery
from edge_relay.pulls.wait_queue import WaitQueue
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)

OnUnreadable = Callable[[str, str], None]
"""Called with the subject of a message that holds no job that can be read, and with its ack subject. Must not block."""


class Arrivals:
    """The messages of one consumer, given to the polls that wait for them, unless the queue has reached its limit."""

    def __init__(
        self,
        broker: Broker,
        waiting: WaitQueue,
        metrics: Metrics,
        on_unreadable: OnUnreadable,
        left: Callable[[], int | None],
    ) -> None:
        self._broker = broker
        self._waiting = waiting
        self._metrics = metrics
        self._on_unreadable = on_unreadable
        self._left = left
        self._unwanted: list[str] = []

    async def receive(self, message: PulledMessage) -> bool:
        """Give a message to a poll; False if no poll here wants it any more, nor the other requested jobs."""
        try:
            job, is_in_place = _parse(message)
        except ValueError as error:
            # Only the type of the error: its text may quote the message.
            log.error("job_unreadable", subject=message.subject, error=type(error).__name__)  # noqa: TRY400
            self._metrics.bad_messages.inc()
            self._on_unreadable(message.subject, message.ack_subject)
            return True
        if not is_in_place:
            # An earlier version had one subject for all kinds. Executor or upkeep miss the job's message at the subject
            # of its kind, and store it there.
            log.info("job_misplaced", job=job.id, queue=job.queue, kind=job.kind)
            await ack(self._broker, message.ack_subject)
            return True
        delivery = Delivery(job, message.ack_subject, datetime.now(UTC))
        if delivery.number > 1:
            self._metrics.redeliveries.labels(*queue_of(job)).inc()
        if self._left() != 0 and self._waiting.hand_over(delivery):
            return True
        self._unwanted.append(message.ack_subject)
        return False

    async def return_unwanted(self) -> bool:
        """Return what no poll wanted to the queue, for another replica; True if there was any.

        Call it once the open pulls are cancelled.
        """
        unwanted, self._unwanted = self._unwanted, []
        for ack_subject in unwanted:
            self._metrics.returns.labels("unwanted").inc()
            await nak(self._broker, ack_subject)
        return bool(unwanted)


def _parse(message: PulledMessage) -> tuple[Job, bool]:
    """The job in a message, and whether the subject is that of its kind.

    Raises:
        ValueError: The message holds no job, or another one than its subject names.
    """
    named = parse_job_subject(message.subject)
    try:
        job = Job.model_validate_json(message.data)
    except ValidationError as error:
        raise ValueError from error
    if (job.team, job.queue, job.id) != (named.team, named.queue, named.job):
        msg = "subject and job differ"
        raise ValueError(msg)
    return job, job.kind is named.kind
