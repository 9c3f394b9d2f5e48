"""Which of the queues that an operator names do not exist: they are allowed, but a name may be mistyped."""

from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet

import structlog

from edge_broker.connection.errors import BrokerUnavailable, JetStreamError

log = structlog.get_logger(__name__)

ExistingQueues = Callable[[], Awaitable[AbstractSet[tuple[str | None, str]]]]
"""Returns team and name of each queue with a consumer, a job or a worker."""


class AbsentQueues:
    """Compares named queues with those that exist.

    Args:
        existing: May raise BrokerUnavailable and JetStreamError.
    """

    def __init__(self, existing: ExistingQueues) -> None:
        self._existing = existing

    async def among(self, queues: Iterable[tuple[str | None, str]]) -> set[tuple[str | None, str]]:
        """Those that do not exist; none if that can't be read, which must not keep operators from acting."""
        named = set(queues)
        if not named:
            return named
        try:
            return named - await self._existing()
        except (BrokerUnavailable, JetStreamError) as error:
            log.warning("queues_not_compared", error=str(error))
            return set()
