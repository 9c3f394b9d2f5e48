"""Who did what, as JSON events on `edge.audit.<action>`; the stream `EDGE_AUDIT` keeps them.

Best effort: an event never delays or fails the action that it reports.
"""

from datetime import UTC, datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.subjects import audit_subject

Fact = str | int | None


class Audit:
    """Publishes the audit events of one process.

    Args:
        author: Who publishes them, for example `relay="eu-1"`; part of each event.
    """

    def __init__(self, broker: Broker, **author: Fact) -> None:
        self._broker = broker
        self._author = author

    async def record(self, action: str, **facts: Fact) -> None:
        """Publish one event.

        Args:
            action: A subject token, for example `worker-revoked`.
            facts: Details of the action; no secret.
        """
        event = {"at": datetime.now(UTC).isoformat(), "action": action, **self._author, **facts}
        await self._broker.publish(audit_subject(action), orjson.dumps(event))
