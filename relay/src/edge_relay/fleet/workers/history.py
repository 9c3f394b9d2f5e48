"""The last events of the audit about one worker. The stream is read backwards in steps that grow, and only so far."""

import asyncio

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.direct_get import BatchMessage, read_batch
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import AUDIT, audit_subject
from edge_schemas.admin.audit import AuditEvent, TargetKind

log = structlog.get_logger(__name__)

MAX_EVENTS = 20
STEPS = (1_000, 10_000, 100_000, 1_000_000)
"""Messages of all targets that each step goes back: the server finds those of one subject by its index."""
READ_TIMEOUT_S = 5.0
_BATCH = 200
_BATCHES_OF_STEP = 3
_MAX_BYTES = 4 << 20


async def worker_history(broker: Broker, worker: str) -> tuple[AuditEvent, ...]:
    """The newest events about a worker, the newest first.

    Raises:
        BrokerUnavailable: They could not be read.
        JetStreamError: There is no such stream.
    """
    pattern = audit_subject(TargetKind.WORKER, worker, "*")
    before = (await stream_info(broker, AUDIT))["state"]["last_seq"] + 1
    found: list[BatchMessage] = []
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            for width in STEPS:
                first = max(1, before - width)
                found = [*await _read(broker, pattern, first, before), *found]
                before = first
                if first == 1 or len(found) >= MAX_EVENTS:
                    break
    except TimeoutError:
        raise BrokerUnavailable("the audit could not be read in time") from None
    events = [event for message in reversed(found[-MAX_EVENTS:]) if (event := _parse(message)) is not None]
    return tuple(events)


async def _read(broker: Broker, pattern: str, first: int, before: int) -> list[BatchMessage]:
    found: list[BatchMessage] = []
    after = first - 1
    for _ in range(_BATCHES_OF_STEP):
        batch = await read_batch(broker, AUDIT, pattern, after=after, max_messages=_BATCH, max_bytes=_MAX_BYTES)
        found += [message for message in batch.messages if message.sequence < before]
        if not batch.more or not batch.messages or batch.messages[-1].sequence >= before - 1:
            break
        after = batch.messages[-1].sequence
    return found


def _parse(message: BatchMessage) -> AuditEvent | None:
    try:
        return AuditEvent.model_validate_json(message.data).model_copy(update={"sequence": message.sequence})
    except ValidationError as error:
        # An event of an older version has another form.
        log.debug("audit_event_unreadable", sequence=message.sequence, errors=error.error_count())
        return None
