"""Parking: the history of a job is stored in `EDGE_DEAD` before its record says that it is parked."""

from edge_broker.connection.broker import Broker
from edge_broker.subjects import dead_subject
from edge_schemas.life.model import JobRecord


async def keep_history(broker: Broker, after: JobRecord) -> None:
    """Store the history of a job that is about to be parked; nothing for another job. A repeat stores it again.

    Raises:
        JetStreamError: It is not stored; the job must not be parked.
        BrokerUnavailable: The outcome is unknown.
    """
    if after.parked is not None:
        history = after.model_dump_json(exclude={"job"}, exclude_none=True).encode()
        await broker.store(dead_subject(after.team, after.queue, after.id), history)
