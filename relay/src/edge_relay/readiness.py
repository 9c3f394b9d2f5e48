"""Whether this replica can serve: connected to NATS, with its streams, credentials and desired state, not stopping."""

import asyncio
from collections.abc import Sequence

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.lifecycle import Lifecycle
from edge_schemas.wire.errors import EdgeError, ErrorCode

LAYOUT_FOR_S = 30.0
"""A correct layout is not read again for this long: probes arrive every few seconds."""


class Readiness:
    """Checks all that serving needs.

    Args:
        lifecycle: Of this replica.
        broker: Its connection.
        receipt_key: Seals grants.
        complete: Set while the buckets that each call needs are in memory.
    """

    def __init__(
        self, lifecycle: Lifecycle, broker: Broker, receipt_key: ReceiptKey, complete: Sequence[asyncio.Event]
    ) -> None:
        self._lifecycle = lifecycle
        self._broker = broker
        self._receipt_key = receipt_key
        self._complete = complete
        self._layout_good_until = 0.0

    async def check(self) -> None:
        """Refuse while the replica can't serve.

        Raises:
            EdgeError: `draining` or `broker_unavailable`.
        """
        self._lifecycle.check()
        if not self._broker.connected:
            raise BrokerUnavailable("there is no connection to NATS at the moment")
        await self._check_layout()
        if not self._receipt_key.ready.is_set() or not all(one.is_set() for one in self._complete):
            raise BrokerUnavailable("credentials and desired state are being read")

    async def _check_layout(self) -> None:
        """Refuse while streams are missing or wrong, and while the broker can't be asked."""
        now = asyncio.get_running_loop().time()
        if now < self._layout_good_until:
            return
        problems = await layout.check(self._broker)
        if problems:
            raise EdgeError(ErrorCode.BROKER_UNAVAILABLE, "; ".join(problems), retry_after_s=5.0)
        self._layout_good_until = now + LAYOUT_FOR_S
