"""A message that this relay can't read: the job it names is released with the reason, and parked in the end.

The executor would republish a message that was only removed, again and again. A relay of another version may be able to
read it, so the job stays away for a moment, like any released job.
"""

import hashlib
from datetime import UTC, datetime

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.message import nak, term
from edge_broker.records import RecordStore
from edge_broker.subjects import parse_job_subject
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.release import release_delay_s
from edge_schemas.life.events import Release
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

WHY = "the message holds no job that relay {relay} can read"


class UnreadableMessages:
    """Puts such messages aside.

    Args:
        relay: The name of this replica, for the reason.
    """

    def __init__(self, broker: Broker, records: RecordStore, parking: Parking, *, relay: str) -> None:
        self._broker = broker
        self._records = records
        self._parking = parking
        self._reason = WHY.format(relay=relay)

    async def put_aside(self, subject: str, ack_subject: str) -> None:
        """Release the job of a message, or remove a message that no waiting job needs."""
        try:
            after = await self._release(subject, ack_subject)
        except BrokerUnavailable as error:
            # It is delivered again after the grant wait.
            log.warning("unreadable_message_left", subject=subject, error=str(error))
        except (EdgeError, JetStreamError, ValueError) as error:
            log.info("unreadable_message_removed", subject=subject, error=str(error))
            await term(self._broker, ack_subject, "no waiting job has this message")
        else:
            if after.parked is None:
                await nak(self._broker, ack_subject, delay_s=release_delay_s(len(after.releases)))
            else:
                await term(self._broker, ack_subject, "parked")

    async def _release(self, subject: str, ack_subject: str) -> JobRecord:
        job = parse_job_subject(subject).job
        grant = hashlib.sha256(ack_subject.encode()).hexdigest()[:16]
        event = Release(None, self._reason, counted=True, at=datetime.now(UTC), grant=grant)
        before, after = await self._records.change(job, event, first=self._parking.keep_history)
        if after.parked is not None and before.parked is None:
            self._parking.count(after)
            await self._parking.report(after)
        return after
