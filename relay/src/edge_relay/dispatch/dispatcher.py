"""Brings the jobs of one queue to the polls of this replica that wait for them.

Raw pull requests, answered to one wildcard inbox per generation: nats-py's own `fetch` leaves requests and messages
behind when it is cancelled. A new generation begins when what was asked for is lost (reconnect, lost pull) or wanted
no more; what still comes to the old inbox is routed like anything else. A message is registered with a poll, or given
back, the moment it arrives: nothing is awaited in between.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.consumer import PulledMessage, PullInbox, PullStatus, StatusKind
from edge_broker.jetstream.message import nak, term
from edge_broker.subjects import JOBS, parse_job_subject
from edge_relay.dispatch.deliveries import Delivery
from edge_relay.dispatch.pull_accounting import EXPIRES_S, Line, PollDemand, PullTracker
from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)

IDLE_S = 60.0
"""A dispatcher that no poll has needed for this long ends."""


class Dispatcher:
    """One consumer's pulls and the polls that wait for it. Run `run()` in a task group; it ends when idle."""

    def __init__(self, broker: Broker, consumer: str, metrics: Metrics, on_end: Callable[[], None]) -> None:
        self.consumer = consumer
        self._broker = broker
        self._metrics = metrics
        self._on_end = on_end
        self._line = Line(consumer)
        self._book = PullTracker()
        self._kick = asyncio.Event()
        self._generation = 0
        self._stale = False
        self._inbox: PullInbox | None = None
        self._needed_at = 0.0

    def join(self, demand: PollDemand) -> None:
        """Ask for jobs for this poll, until it has what it wants or leaves."""
        self._line.join(demand)
        self._kick.set()

    def consumer_made(self) -> None:
        """The consumer has just been made: pull at once."""
        self._book.reset_backoff()
        self._kick.set()

    def reconnected(self) -> None:
        """What was asked of the old connection is lost."""
        self._stale = True
        self._book.reset_backoff()
        self._kick.set()

    async def run(self) -> None:
        """Pull for whoever waits, until nobody has for a while."""
        self._needed_at = self._now()
        try:
            while not self._idle():
                self._kick.clear()
                await self._step()
                await self._pause()
        finally:
            # Before anything is awaited: whoever comes from here on gets a new dispatcher.
            self._on_end()
            await self._close()

    async def _step(self) -> None:
        """Ask for what is wanted; on failure wait with that for a moment."""
        try:
            if self._stale or self._book.overdue(self._now()):
                await self._renew()
            for pull in self._book.ask(self._line.wanted, self._now()):
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
        """Begin a generation: an inbox of its own, so that late answers are not taken for new ones."""
        generation = self._generation

        async def on_answer(answer: PulledMessage | PullStatus) -> None:
            await self._on_answer(answer, current=generation == self._generation)

        inbox = PullInbox(self._broker, JOBS, self.consumer, on_answer)
        await inbox.open()
        return inbox

    async def _renew(self) -> None:
        """End a generation. Nothing that was under way is lost: the old inbox is emptied before it goes."""
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
                self._take_status(answer)
            return
        if current:
            self._book.arrived()
        await self._take_job(answer)
        self._kick.set()

    def _take_status(self, status: PullStatus) -> None:
        self._book.ended(status, self._now())
        if status.kind in {StatusKind.NO_CONSUMER, StatusKind.REJECTED}:
            self._metrics.pull_errors.labels(str(status.code)).inc()
            log.debug("pull_refused", consumer=self.consumer, status=status.code)
        self._kick.set()

    async def _take_job(self, message: PulledMessage) -> None:
        try:
            job = _parse(message)
        except ValueError as error:
            # Text of a validation error without what was in the message.
            log.error("job_unreadable", subject=message.subject, error=type(error).__name__)  # noqa: TRY400
            self._metrics.bad_messages.inc()
            await term(self._broker, message.ack_subject, "the message holds no job")
            return
        delivery = Delivery(job, message.ack_subject, self.consumer, datetime.now(UTC))
        if delivery.number > 1:
            self._metrics.redeliveries.labels(*queue_of(job)).inc()
        if not self._line.hand_over(delivery):
            # Nobody wants it any more, nor what else was asked for. A poll elsewhere may: it goes back at once.
            self._stale = True
            self._metrics.returns.labels("unwanted").inc()
            await nak(self._broker, message.ack_subject)

    async def _pause(self) -> None:
        """Until something happens, or it is time to look again."""
        now = self._now()
        if self._line.wanted:
            self._needed_at = now
        moment = self._book.next_moment(self._line.wanted)
        timeout = IDLE_S if moment is None else max(0.0, moment - now)
        try:
            async with asyncio.timeout(timeout):
                await self._kick.wait()
        except TimeoutError:
            return

    def _idle(self) -> bool:
        return not self._line.wanted and self._now() - self._needed_at >= IDLE_S

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _parse(message: PulledMessage) -> Job:
    """The job of a message, if it is the one that its subject names.

    Raises:
        ValueError: It is not.
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
