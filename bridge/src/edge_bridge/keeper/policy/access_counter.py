"""Counts what jobs use, in memory, and adds the counts to `edge_accesses` in batches: a call costs no write."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog

from edge_bridge.keeper.policy.figures import PolicyFigures
from edge_bridge.keeper.policy.uses import Use
from edge_broker.bucket import RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.policies.access_store import AccessStore
from edge_schemas.policies.accesses import (
    MAX_DAGS,
    MAX_NAMES,
    Access,
    AccessCounts,
    AccessDay,
    AccessOutcome,
    is_short,
)
from edge_schemas.policies.policy import PolicyTarget

log = structlog.get_logger(__name__)

FLUSH_S = 5.0
"""A keeper that is killed loses what it has counted since its last flush."""
MAX_WAITING = 500
"""Queues, sites and days with counts in memory. Counts of a further one are dropped, and counted as such."""

_Key = tuple[PolicyTarget, date]


@dataclass(slots=True)
class _Name:
    """How often one name was used since the last flush."""

    first_at: datetime
    last_at: datetime
    outcomes: Counter[AccessOutcome] = field(default_factory=Counter)
    dags: dict[str, None] = field(default_factory=dict)


class _Counts:
    """What was counted for a queue or a site, and a day, since the last flush."""

    def __init__(self) -> None:
        self._names: dict[Use, _Name] = {}
        self._others: dict[str, Counter[AccessOutcome]] = {}

    def add(self, use: Use, outcome: AccessOutcome, at: datetime, dag: str | None) -> None:
        """One call."""
        if (name := self._names.get(use)) is None:
            if len(self._names) >= MAX_NAMES or not is_short(use.name):
                self._others.setdefault(use.kind, Counter())[outcome] += 1
                return
            name = self._names[use] = _Name(at, at)
        name.last_at = at
        name.outcomes[outcome] += 1
        if dag is not None and len(name.dags) <= MAX_DAGS and is_short(dag):
            name.dags[dag] = None

    def day(self) -> AccessDay:
        """As it is added to what is stored."""
        accesses = tuple(
            Access(
                kind=use.kind,
                name=use.name,
                first_at=name.first_at,
                last_at=name.last_at,
                dags=tuple(name.dags)[:MAX_DAGS],
                has_more_dags=len(name.dags) > MAX_DAGS,
                **_by_name(name.outcomes),
            )
            for use, name in self._names.items()
        )
        return AccessDay(
            accesses=accesses,
            others=tuple(AccessCounts(kind=kind, **_by_name(outcomes)) for kind, outcomes in self._others.items()),
        )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Counts on their way; they stay as they are until NATS has confirmed them, so that none is added twice."""

    number: int
    counts: AccessDay


class AccessCounter:
    """Run `run()` in a task group, and call `flush()` at the end.

    Args:
        broker: Connected or not.
        figures: Count calls by kind and outcome.
    """

    def __init__(self, broker: Broker, figures: PolicyFigures) -> None:
        self._store = AccessStore(broker)
        self._figures = figures
        self._keeper = uuid.uuid4().hex
        self._number = 0
        self._counts: dict[_Key, _Counts] = {}
        self._batches: dict[_Key, _Batch] = {}

    def count(self, targets: Iterable[PolicyTarget], used: Mapping[Use, AccessOutcome], dag: str | None) -> None:
        """A call was answered or denied.

        Args:
            targets: The queue and the site of its job.
            used: What it used, and what became of that.
            dag: Of the job; None for an auxiliary job.
        """
        now = datetime.now(UTC)
        for use, outcome in used.items():
            self._figures.used(use.kind, outcome)
        for target in targets:
            key = (target, now.date())
            if (counts := self._counts.get(key)) is None:
                if len(self._counts) >= MAX_WAITING:
                    self._figures.dropped(len(used))
                    continue
                counts = self._counts[key] = _Counts()
            for use, outcome in used.items():
                counts.add(use, outcome, now, dag)

    async def run(self) -> None:
        """Flush now and then, forever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Add what was counted. What NATS does not confirm is added at the next flush."""
        for key in list(self._counts.keys() | self._batches.keys()):
            try:
                # What was counted since a batch was made that is not confirmed follows it.
                while batch := self._next(key):
                    await self._store.add(*key, batch.counts, keeper=self._keeper, number=batch.number)
                    del self._batches[key]
            except (BrokerUnavailable, JetStreamError, RevisionConflict) as error:
                log.warning("accesses_not_stored", waiting=len(self._counts) + len(self._batches), error=str(error))
                return

    def _next(self, key: _Key) -> _Batch | None:
        """The batch that is on its way, or a new one of what was counted; None if there is nothing."""
        if key not in self._batches and key in self._counts:
            self._number += 1
            self._batches[key] = _Batch(self._number, self._counts.pop(key).day())
        return self._batches.get(key)


def _by_name(outcomes: Counter[AccessOutcome]) -> dict[str, int]:
    return {outcome.value: count for outcome, count in outcomes.items()}
