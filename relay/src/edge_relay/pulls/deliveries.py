"""A job that a queue has delivered, until its message is acknowledged."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from edge_broker.jetstream.message import delivery_number, pending
from edge_schemas.wire.jobs import Job


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A job that JetStream has delivered and that is not acknowledged yet.

    Attributes:
        ack_subject: Acknowledges it, from any connection of any replica.
        consumer: Of the queue it came from.
        arrived_at: By the wall clock: other replicas read it from the receipt.
        arrived: The same moment by `time.monotonic()`.
    """

    job: Job
    ack_subject: str
    consumer: str
    arrived_at: datetime
    arrived: float = field(default_factory=time.monotonic)

    @property
    def pending(self) -> int:
        """How many messages waited behind it in its queue."""
        return pending(self.ack_subject)

    @property
    def number(self) -> int:
        """1 for the first delivery of its message."""
        return delivery_number(self.ack_subject)
