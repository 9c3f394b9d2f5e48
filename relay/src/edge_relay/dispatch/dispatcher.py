"""Delivers the jobs of one queue to the polls of this replica that wait for them.

Raw pull requests, answered to one wildcard inbox per generation: nats-py's own `fetch` leaves requests and messages
behind when it is cancelled. A new generation begins when the requested messages are lost (reconnect, lost pull) or no
longer wanted; what still arrives at the old inbox is routed like any other message. A message is registered with a
poll, or returned to the queue, when it arrives: nothing is awaited in between.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.consumer import PulledMessage, PullInbox, PullStatus, StatusKind
from edge_broker.jetstream.message import nak
from edge_broker.subjects import JOBS, parse_job_subject
from edge_relay.dispatch.deliveries import Delivery
from edge_relay.dispatch.pull_accounting import EXPIRES_S, PollDemand, PullTracker, WaitQueue
from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)

NOT_ALLOWED_DELAY_S = 10.0
"""How long an auxiliary job that no waiting worker accepts stays away; else it would be delivered again immediately."""
IDLE_S = 60.0
"""A dispatcher that no poll has needed for this long ends."""


OnUnreadable = Callable[[str, str], None]
"""Called with the subject of a message that holds no job that can be read, and with its ack subject. Must not block."""


class Dispatcher:
    """One consumer's pulls and the polls that wait for it. Run `run()` in a task group; it ends when idle."""

    def __init__(
        self,
        broker: Broker,
        consumer: str,
        metrics: Metrics,
        on_unreadable: OnUnreadable,
        on_end: Callable[[], None],
    ) -> None:
        self.consumer = consumer
        self._broker = broker
        self._metrics = metrics
        self._on_unreadable = on_unreadable
        self._on_end = on_end
        self._waiting = WaitQueue(consumer)
        self._book = PullTracker()
        self._kick = asyncio.Event()
        self._generation = 0
        self._stale = False
        self._inbox: PullInbox | None = None
        self._needed_at = 0.0

    def join(self, demand: PollDemand) -> None:
        """Request jobs for this poll until it has enough or leaves."""
        self._waiting.join(demand)
        self._kick.set()

    def consumer_made(self) -> None:
        """The consumer has just been created: pull at once."""
        self._book.reset_backoff()
        self._kick.set()

    def reconnected(self) -> None:
        """The pulls that were sent on the old connection are lost."""
        self._stale = True
        self._book.reset_backoff()
        self._kick.set()

    async def run(self) -> None:
        """Pull for the waiting polls, until there has been none for a while."""
        self._needed_at = self._now()
        try:
            while not self._idle():
                self._kick.clear()
                await self._step()
                await self._pause()
        finally:
            # Before anything is awaited: polls that arrive from here on get a new dispatcher.
            self._on_end()
            await self._close()

    async def _step(self) -> None:
        """Send the pulls that are needed; after a failure wait for a moment."""
        try:
            if self._stale or self._book.overdue(self._now()):
                await self._renew()
            for pull in self._book.ask(self._waiting.wanted, self._now()):
                await self._send(pull.number, pull.batch)
        except BrokerUnavailable as error:
            log.debug("pull_failed", consumer=self.consumer, error=str(error))
            self._book.forget()
            self._book.failed(self._now())
            self._stale = True

    async def _send(self, number: int, batch: int) -> None:
        if self._inbox is None:
            self._inbox = await self._open()
        await self._inbox.pull(number, batch, EXPIRES_S)

    async def _open(self) -> PullInbox:
        """Begin a generation with its own inbox, which separates late answers from new ones."""
        generation = self._generation

        async def on_answer(answer: PulledMessage | PullStatus) -> None:
            await self._on_answer(answer, current=generation == self._generation)

        inbox = PullInbox(self._broker, JOBS, self.consumer, on_answer)
        await inbox.open()
        return inbox

    async def _renew(self) -> None:
        """End a generation. Nothing under way is lost: the old inbox is emptied before it is closed."""
        self._stale = False
        self._generation += 1
        self._book.forget()
        await self._close()

    async def _close(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await inbox.close()

    async def _on_answer(self, answer: PulledMessage | PullStatus, *, current: bool) -> None:
        if isinstance(answer, PullStatus):
            if current:
                self._on_status(answer)
            return
        if current:
            self._book.arrived()
        await self._on_job(answer)
        self._kick.set()

    def _on_status(self, status: PullStatus) -> None:
        self._book.ended(status, self._now())
        if status.kind in {StatusKind.NO_CONSUMER, StatusKind.REJECTED}:
            self._metrics.pull_errors.labels(str(status.code)).inc()
            log.debug("pull_refused", consumer=self.consumer, status=status.code)
        self._kick.set()

    async def _on_job(self, message: PulledMessage) -> None:
        try:
            job = _parse(message)
        except ValueError as error:
            # Only the type of the error: its text may quote the message.
            log.error("job_unreadable", subject=message.subject, error=type(error).__name__)  # noqa: TRY400
            self._metrics.bad_messages.inc()
            self._on_unreadable(message.subject, message.ack_subject)
            return
        delivery = Delivery(job, message.ack_subject, self.consumer, datetime.now(UTC))
        if delivery.number > 1:
            self._metrics.redeliveries.labels(*queue_of(job)).inc()
        if not self._waiting.hand_over(delivery):
            if job.auxiliary is not None and self._waiting.wanted:
                # The polls that wait are of workers whose owners do not allow it; another one may poll later.
                self._metrics.returns.labels("not_allowed").inc()
                await nak(self._broker, message.ack_subject, delay_s=NOT_ALLOWED_DELAY_S)
                return
            # No poll here wants it any more, nor the other requested jobs. Another replica may: return it at once.
            self._stale = True
            self._metrics.returns.labels("unwanted").inc()
            await nak(self._broker, message.ack_subject)

    async def _pause(self) -> None:
        """Wait until something happens, or it is time to check again."""
        now = self._now()
        if self._waiting.wanted:
            self._needed_at = now
        moment = self._book.next_moment(self._waiting.wanted)
        timeout = IDLE_S if moment is None else max(0.0, moment - now)
        try:
            async with asyncio.timeout(timeout):
                await self._kick.wait()
        except TimeoutError:
            return

    def _idle(self) -> bool:
        return not self._waiting.wanted and self._now() - self._needed_at >= IDLE_S

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _parse(message: PulledMessage) -> Job:
    """The job in a message.

    Raises:
        ValueError: The message holds no job, or another one than its subject names.
    """
    team, queue, job_id = parse_job_subject(message.subject)
    try:
        job = Job.model_validate_json(message.data)
    except ValidationError as error:
        raise ValueError from error
    if (job.team, job.queue, job.id) != (team, queue, job_id):
        msg = "subject and job differ"
        raise ValueError(msg)
    return job
