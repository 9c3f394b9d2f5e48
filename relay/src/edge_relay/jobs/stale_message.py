"""Removes the message of a job that is no longer waiting to be started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.message import ack
from edge_schemas.wire.errors import EdgeError, ErrorCode

_NOT_WAITING = frozenset({ErrorCode.JOB_ENDED, ErrorCode.NOT_HOLDER, ErrorCode.WRONG_STATE})


@asynccontextmanager
async def ack_if_not_waiting(broker: Broker, ack_subject: str) -> AsyncIterator[None]:
    """Acknowledge the message if the change inside is refused because the job is not waiting any more."""
    try:
        yield
    except EdgeError as error:
        if error.code in _NOT_WAITING:
            await ack(broker, ack_subject)
        raise
