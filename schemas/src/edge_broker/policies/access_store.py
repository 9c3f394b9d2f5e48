"""The bucket `edge_accesses`: an entry for each queue or site and day. Keepers add to it by compare-and-swap."""

from datetime import date, datetime, timedelta

import structlog
from pydantic import ValidationError

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.subjects import ACCESSES_BUCKET
from edge_schemas.policies.accesses import AccessDay, add_batch
from edge_schemas.policies.policy import PolicyTarget

log = structlog.get_logger(__name__)

_SWAPS = 20


class AccessStore:
    """Reads counted accesses, and adds to them."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, ACCESSES_BUCKET)

    async def add(self, target: PolicyTarget, day: date, batch: AccessDay, *, keeper: str, number: int) -> None:
        """Add a keeper's batch; nothing changes if it was added before.

        Args:
            target: The queue or the site.
            day: In UTC.
            batch: What was counted since the keeper's batch before.
            keeper: A name of this run of the keeper.
            number: Of the batch; each is greater than the one before.

        Raises:
            BrokerUnavailable: The outcome is unknown: repeat it with the same number and the same batch.
            RevisionConflict: Other keepers were faster, many times; repeat it likewise.
        """
        key = f"{target.key}.{day:%Y%m%d}"
        for _ in range(_SWAPS):
            stored = await self._bucket.get(key)
            known = AccessDay() if stored.value is None else _parse(key, stored.value)
            after = add_batch(known, keeper, number, batch)
            if after is known:
                return
            try:
                await self._bucket.put(key, after.model_dump_json().encode(), revision=stored.revision)
            except RevisionConflict:
                continue
            return
        raise RevisionConflict(key)

    async def days(self, target: PolicyTarget, *, since: datetime) -> list[AccessDay]:
        """What was used on the day of `since` and later.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        prefix = f"{target.key}."
        keys = await self._bucket.keys(f"{prefix}*")
        wanted = sorted(key for key in keys if key.removeprefix(prefix) >= f"{since:%Y%m%d}")
        values = [(key, (await self._bucket.get(key)).value) for key in wanted]
        return [_parse(key, value) for key, value in values if value is not None]


def days_back(now: datetime, days: int) -> datetime:
    """The beginning of a list that shows so many days, today included."""
    return now - timedelta(days=days - 1)


def _parse(key: str, value: bytes) -> AccessDay:
    """Accesses that can't be read are counted from 0 again: a keeper must not stop counting for them."""
    try:
        return AccessDay.model_validate_json(value)
    except ValidationError as error:
        log.warning("accesses_unreadable", key=key, errors=error.error_count())
        return AccessDay()
