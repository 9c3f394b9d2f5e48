"""The inboxes of one consumer's lanes: requests out, answers in."""

from collections.abc import Awaitable, Callable

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.consumer import PulledMessage, PullInbox, PullStatus
from edge_broker.subjects import JOBS
from edge_relay.pulls.lanes import EXPIRES_S, Pull

OnAnswer = Callable[[PulledMessage | PullStatus, int | None], Awaitable[None]]
"""An answer and its lane; None if the lane has a new inbox by now."""


class LaneInboxes:
    """Opened when a lane sends its first pull. A new inbox separates late answers from those to later pulls."""

    def __init__(self, broker: Broker, consumer: str, on_answer: OnAnswer) -> None:
        self._broker = broker
        self._consumer = consumer
        self._on_answer = on_answer
        self._open: dict[int, PullInbox] = {}

    async def send(self, pull: Pull) -> None:
        """Send a pull on its lane.

        Raises:
            BrokerUnavailable: There is no connection.
        """
        inbox = self._open.get(pull.lane)
        if inbox is None:
            inbox = await self._begin(pull.lane)
        await inbox.pull(pull.number, pull.batch, None if pull.is_probe else EXPIRES_S)

    async def close(self) -> None:
        """Cancel all open pulls. Nothing under way is lost: answers that the server had sent are still handled."""
        closing = list(self._open.values())
        self._open.clear()
        for inbox in closing:
            await inbox.close()

    async def _begin(self, lane: int) -> PullInbox:
        async def on_answer(answer: PulledMessage | PullStatus) -> None:
            await self._on_answer(answer, lane if self._open.get(lane) is inbox else None)

        inbox = PullInbox(self._broker, JOBS, self._consumer, on_answer)
        self._open[lane] = inbox
        await inbox.open()
        return inbox
