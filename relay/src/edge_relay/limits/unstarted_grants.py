"""How many grants a worker may have that it has not started.

A granted job is kept from other workers until its grant runs out. A worker that lets grants run out gets fewer at once,
down to one. If it starts nothing at all, the next one comes after a pause that doubles. Each start allows one more.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from edge_broker.records import RecordStore
from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.life.model import JobState
from edge_schemas.wire.polls import GRANT_WAIT_S, Poll
from edge_schemas.wire.worker_report import JobPhase

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0
MAX_WORKERS = 20_000
CHECKED_AT_ONCE = 16


@dataclass(slots=True)
class _Open:
    """A grant that was sent and that is not known to be started or released.

    Attributes:
        until: When it runs out.
    """

    job: str
    until: float


@dataclass(slots=True)
class _Grants:
    """What is known of one worker.

    Attributes:
        most: How many unstarted grants it may have now.
        open: Unstarted grants of this replica, by `Receipt.grant`.
        ran_out: Grants that ran out and were not counted against the worker yet.
        idle_rounds: How often in succession grants ran out while it started nothing.
        started: It has started a job since grants ran out last.
        paused_until: No grant before this time.
    """

    most: int
    open: dict[str, _Open] = field(default_factory=dict)
    ran_out: int = 0
    idle_rounds: int = 0
    started: bool = False
    paused_until: float = 0.0


class UnstartedGrants:
    """Counts the grants of this replica until they are started, are released, or run out.

    A start or a release may reach another replica. So a grant that seems to have run out is compared with the job's
    record.

    Args:
        records: Of the jobs.
        most: The most unstarted grants of a worker that starts what it gets.
        on_limit: Counts polls that get fewer grants than they ask for.
    """

    def __init__(self, records: RecordStore, most: int, on_limit: OnLimit) -> None:
        self._records = records
        self._most = most
        self._on_limit = on_limit
        self._workers: OrderedDict[str, _Grants] = OrderedDict()

    def granted(self, worker: str, job: str, grant: str) -> None:
        """A grant was sent; see `Receipt.grant`."""
        grants, now = self._workers.setdefault(worker, _Grants(self._most)), self._now()
        for earlier in grants.open.values():
            if earlier.job == job:
                # The message was delivered again to the same worker: the grant before this one is over.
                earlier.until = now
        grants.open[grant] = _Open(job, now + GRANT_WAIT_S)
        self._workers.move_to_end(worker)
        if len(self._workers) > MAX_WORKERS:
            self._workers.popitem(last=False)

    def started(self, worker: str, grant: str) -> None:
        """The worker has started the job of a grant through this replica."""
        grants = self._workers.get(worker)
        if grants is not None and grants.open.pop(grant, None) is not None:
            self._credit(grants)
            self._forget_if_normal(worker, grants)

    def released(self, worker: str, grant: str) -> None:
        """The worker has released the job of a grant through this replica."""
        if grants := self._workers.get(worker):
            grants.open.pop(grant, None)
            self._forget_if_normal(worker, grants)

    async def room(self, worker: str, poll: Poll) -> int:
        """How many jobs the poll may be granted, at most as many as it asks for.

        Raises:
            BrokerUnavailable: A record can't be read.
        """
        grants = self._workers.get(worker)
        if grants is None:
            return min(poll.free, self._most)
        # What the worker reports as begun was started, perhaps through another replica.
        reported = {job.id for job in poll.jobs if job.phase is not JobPhase.GRANTED}
        begun = {grant for grant, one in grants.open.items() if one.job in reported}
        await self._compare(worker, grants, begun)
        unstarted = len(grants.open.keys() - begun)
        room = 0 if grants.paused_until > self._now() else max(0, grants.most - unstarted)
        if room < poll.free and grants.most < self._most:
            self._on_limit(Limit.UNSTARTED_GRANTS)
        return min(poll.free, room)

    async def _compare(self, worker: str, grants: _Grants, begun: Collection[str]) -> None:
        """Compare grants whose time is over with the records of their jobs."""
        now, limited = self._now(), grants.most < self._most
        over = [one for one in grants.open.items() if one[1].until <= now or (limited and one[0] in begun)]
        del over[CHECKED_AT_ONCE:]
        records = await asyncio.gather(*(self._records.get_if_readable(one.job) for _, one in over))
        for (grant, one), record in zip(over, records, strict=True):
            if grants.open.pop(grant, None) is None:
                continue  # it was started or released meanwhile
            if record is None or (record.holder is None and record.state is JobState.ENDED):
                continue  # it was withdrawn or can't be read, and could not be started
            if record.holder is not None and record.holder.worker == worker:
                self._credit(grants)
            elif not record.was_released(grant):
                grants.ran_out += one.until <= now
        if grants.ran_out:
            self._limit(worker, grants)
        self._forget_if_normal(worker, grants)

    def _credit(self, grants: _Grants) -> None:
        grants.started = True
        grants.idle_rounds = 0
        grants.paused_until = 0.0
        grants.most = min(self._most, grants.most + 1)

    def _limit(self, worker: str, grants: _Grants) -> None:
        ran_out, grants.ran_out = grants.ran_out, 0
        pause_s = 0.0
        if grants.started:
            grants.most = max(1, grants.most // 2)
        else:
            grants.most = 1
            grants.idle_rounds += 1
            if grants.idle_rounds > 1:
                # The exponent is bounded: a worker may do this for months.
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(grants.idle_rounds - 2, 16))
        grants.started = False
        grants.paused_until = self._now() + pause_s
        log.warning("grants_ran_out", worker=worker, jobs=ran_out, at_once=grants.most, pause_s=pause_s)

    def _forget_if_normal(self, worker: str, grants: _Grants) -> None:
        if not grants.open and not grants.ran_out and grants.most == self._most:
            self._workers.pop(worker, None)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
