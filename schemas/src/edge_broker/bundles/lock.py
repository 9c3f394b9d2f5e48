"""Locks among all that publish bundles and all that remove them, kept in `edge_bundles`: shared or exclusive.

A holder renews its part of the entry. A holder that died is recognised by one that waits: its part has not changed for
`LIFE_S` by the clock of the one that waits, so no two clocks are compared. A holder that can't renew loses the lock
earlier, by its own clock.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import structlog
from pydantic import Field, ValidationError

from edge_broker.bucket import Bucket, RevisionConflict, Stored
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.subjects import BUNDLES_BUCKET
from edge_schemas.wire.base import Outbound
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

CONTENT = "-content"
"""Held shared while a version is published, and exclusively while pieces and manifests are removed."""
KEEPER = "-keeper"
"""Held by the keeper that publishes and removes. No bundle has such a key: an encoded name begins with no hyphen."""
LIFE_S = 30.0
_RENEWALS = 6
"""In `LIFE_S`."""
RETRY_S = 0.2


class LockBusy(Exception):
    """Others have kept the lock for longer than the caller waits; the text names them."""


class LockLost(Exception):
    """It could not be renewed in time, so others may have it. Start again with what the lock protects."""


class Holder(Outbound):
    """One of those that have a lock.

    Attributes:
        by: The process, for people.
        exclusive: No other may have the lock.
        beat: Rises with each renewal.
    """

    by: str
    exclusive: bool
    beat: int = 0


class LockEntry(Outbound):
    """A lock; key `-content` or `-keeper`."""

    holders: dict[str, Holder] = Field(default_factory=dict)


class HeldLock:
    """A lock that the caller has.

    Args:
        life_s: After this time without a renewal others may have it.
        clock: Monotonic seconds.
    """

    def __init__(self, life_s: float, clock: Callable[[], float]) -> None:
        self._life_s = life_s
        self._clock = clock
        self._renewed_at = clock()
        self._lost = False

    @property
    def is_held(self) -> bool:
        """Whether the lock is held for some time from now on: half of its life is left."""
        return not self._lost and self._clock() - self._renewed_at < self._life_s / 2

    def check(self) -> None:
        """Call it before each step that the lock protects; a step must not take longer than a request to NATS.

        Raises:
            LockLost: It is not held for long enough.
        """
        if not self.is_held:
            raise LockLost("the lock of bundles could not be renewed in time")

    def renewed(self, at: float) -> None:
        """It was renewed by a request that was sent at this time."""
        self._renewed_at = at

    def lost(self) -> None:
        """Another has taken this holder for dead."""
        self._lost = True


class BundleLock:
    """One lock, for one process.

    Args:
        broker: With the right to write `edge_bundles`.
        key: `CONTENT` or `KEEPER`.
        by: The process, for people.
        life_s: The same for all who use the lock.
        retry_s: Between two requests for the lock while others have it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        broker: Broker,
        key: str,
        by: str,
        *,
        life_s: float = LIFE_S,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._bucket = Bucket(broker, BUNDLES_BUCKET)
        self._key = key
        self._by = by
        self._life_s = life_s
        self._retry_s = retry_s
        self._clock = clock
        self._beats: dict[str, tuple[int, float]] = {}

    @asynccontextmanager
    async def hold(self, *, exclusive: bool, wait_s: float) -> AsyncIterator[HeldLock]:
        """Have the lock inside. A dead holder delays this by `life_s`, so a shorter wait may fail because of one.

        Raises:
            LockBusy: Others have had it for all this time.
            BrokerUnavailable: NATS could not be asked.
            JetStreamError: NATS refused.
        """
        holder = uuid.uuid4().hex
        held = await self._acquire(holder, exclusive=exclusive, wait_s=wait_s)
        renewing = asyncio.create_task(self._renew(holder, held), name=f"bundle-lock-{self._key.strip('-')}")
        try:
            yield held
        finally:
            await task_cleanup.cancel_and_wait([renewing])
            await self._release(holder)

    async def _acquire(self, holder: str, *, exclusive: bool, wait_s: float) -> HeldLock:
        give_up = self._clock() + wait_s
        while True:
            stored = await self._bucket.get(self._key)
            holders = self._alive(stored)
            others = [other.by for other in holders.values() if exclusive or other.exclusive]
            held = HeldLock(self._life_s, self._clock)
            if not others and await self._write(stored, holders | {holder: Holder(by=self._by, exclusive=exclusive)}):
                return held
            if others and self._clock() >= give_up:
                raise LockBusy(f"the lock {self._key} of {BUNDLES_BUCKET} is held by {', '.join(others)}")
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret

    def _alive(self, stored: Stored) -> dict[str, Holder]:
        """The holders that may live. One is dead if its beat has not changed for `life_s` by this process's clock."""
        now = self._clock()
        entry = _parse(stored)
        self._beats = {
            holder: seen if (seen := self._beats.get(holder)) is not None and seen[0] == part.beat else (part.beat, now)
            for holder, part in entry.holders.items()
        }
        dead = {holder for holder, (_, since) in self._beats.items() if now - since >= self._life_s}
        for holder in dead:
            log.warning("bundle_lock_expired", lock=self._key, holder=entry.holders[holder].by, after_s=self._life_s)
        return {holder: part for holder, part in entry.holders.items() if holder not in dead}

    async def _renew(self, holder: str, held: HeldLock) -> None:
        while True:
            await asyncio.sleep(self._life_s / _RENEWALS)
            try:
                while not await self._beat(holder, held):
                    pass  # another holder has written: at once again
            except (BrokerUnavailable, JetStreamError) as error:
                log.warning("bundle_lock_not_renewed", lock=self._key, error=str(error))

    async def _beat(self, holder: str, held: HeldLock) -> bool:
        """Renew once; False if another holder was faster."""
        sent_at = self._clock()
        stored = await self._bucket.get(self._key)
        holders = _parse(stored).holders
        if (part := holders.get(holder)) is None:
            held.lost()
            return True
        renewed = part.model_copy(update={"beat": part.beat + 1})
        if not await self._write(stored, holders | {holder: renewed}):
            return False
        held.renewed(sent_at)
        return True

    async def _release(self, holder: str) -> None:
        """Not released, the lock delays others as that of a dead process does."""
        try:
            while True:
                stored = await self._bucket.get(self._key)
                holders = _parse(stored).holders
                if holder not in holders or await self._write(
                    stored, {other: part for other, part in holders.items() if other != holder}
                ):
                    return
        except (BrokerUnavailable, JetStreamError) as error:
            log.warning("bundle_lock_not_released", lock=self._key, error=str(error))

    async def _write(self, stored: Stored, holders: dict[str, Holder]) -> bool:
        """Whether it is written; not if another was faster."""
        try:
            await self._bucket.put(
                self._key, LockEntry(holders=holders).model_dump_json().encode(), revision=stored.revision
            )
        except RevisionConflict:
            return False
        return True


def _parse(stored: Stored) -> LockEntry:
    """The entry. One that can't be read, perhaps of a later version, counts as held by another process."""
    if stored.value is None:
        return LockEntry()
    try:
        return LockEntry.model_validate_json(stored.value)
    except ValidationError:
        return LockEntry(holders={"": Holder(by="a process of another version", exclusive=True, beat=stored.revision)})
