"""Finds the unfinished jobs that would be refused without an older key."""

import asyncio

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.records import RecordUnreadable, parse_record
from edge_broker.subjects import RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.life.model import JobState
from edge_service.task_cleanup import cancel_and_wait

CONNECT_S = 15.0
LIST_S = 300.0


class Unanswered(Exception):
    """NATS has not shown the jobs in time."""


async def not_signed_by(key: str, settings: BrokerSettings) -> list[str]:
    """The unfinished jobs of Airflow that the key with this id has not signed.

    Raises:
        Unanswered: It is not known.
    """
    found = []

    def note(job: str, value: bytes | None) -> None:
        if value is not None and _needs_another(job, value, key):
            found.append(job)

    async with Broker(settings) as broker:
        watched = WatchedBucket(broker, RECORDS_BUCKET, note)
        task = asyncio.create_task(watched.run(), name="watched-records")
        try:
            async with asyncio.timeout(CONNECT_S):
                await broker.wait_connected()
            async with asyncio.timeout(LIST_S):
                await watched.complete.wait()
        except TimeoutError:
            raise Unanswered(
                "NATS does not show which jobs are unfinished; use --force to retire keys anyway"
            ) from None
        finally:
            await cancel_and_wait([task])
    return sorted(set(found))


def _needs_another(job: str, value: bytes, key: str) -> bool:
    try:
        record = parse_record(job, value)
    except RecordUnreadable:
        return True
    if record is None or record.state is JobState.ENDED or record.terms is not None or record.job is None:
        return False
    signed = record.job.signed
    return signed is None or all(signature.key != key for signature in signed.signatures)
