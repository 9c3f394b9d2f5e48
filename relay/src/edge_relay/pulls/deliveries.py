"""A job that a queue has delivered, until its message is acknowledged."""

import time
from dataclasses import dataclass, field
from datetime import datetime

from edge_broker.jetstream.message import delivery_number, pending
from edge_broker.subjects import queue_token
from edge_schemas.wire.jobs import Job


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A job that JetStream has delivered and that is not acknowledged yet.

    Attributes:
        ack_subject: Acknowledges it, from any connection of any replica.
        arrived_at: By the wall clock: other replicas read it from the receipt.
        arrived: The same moment by `time.monotonic()`.
    """

    job: Job
    ack_subject: str
    arrived_at: datetime
    arrived: float = field(default_factory=time.monotonic)

    @property
    def queue(self) -> str:
        """The queue it came from, as a token."""
        return queue_token(self.job.team, self.job.queue)

    @property
    def pending(self) -> int:
        """How many messages waited behind it at its consumer."""
        return pending(self.ack_subject)

    @property
    def number(self) -> int:
        """1 for the first delivery of its message."""
        return delivery_number(self.ack_subject)
