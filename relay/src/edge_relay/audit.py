"""Who did what, as JSON events on `edge.audit.<action>`.

Best effort: an event never delays or fails what it tells of.
"""

from datetime import UTC, datetime

import orjson

from edge_schemas.broker.connection import Broker
from edge_schemas.subjects import audit_subject


class Audit:
    """Publishes audit events of this replica."""

    def __init__(self, broker: Broker, relay: str) -> None:
        self._broker = broker
        self._relay = relay

    async def record(self, action: str, **facts: str | int | None) -> None:
        """Publish one event.

        Args:
            action: A subject token, for example `worker-revoked`.
            facts: What it is about; no secret.
        """
        event = {"at": datetime.now(UTC).isoformat(), "action": action, "relay": self._relay, **facts}
        await self._broker.publish(audit_subject(action), orjson.dumps(event))
