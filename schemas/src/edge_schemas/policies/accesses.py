"""What jobs used, counted by name and day; and how counts of several keepers are added. Names only, never values."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound

MAX_NAMES = 400
"""Of one queue or site and one day, of all kinds. What is used beyond them is counted without its name."""
MAX_NAME_BYTES = 300
"""Of a name or a DAG id in JSON. With all limits a day's entry has some 600 KB: NATS accepts 1 MiB."""
MAX_DAGS = 3
"""DAG ids with each name."""
MAX_BATCHES = 64
"""The last batches of so many keepers are known in an entry."""


class AccessOutcome(StrEnum):
    """What became of a call."""

    ALLOWED = "allowed"
    WOULD_BE_DENIED = "would_be_denied"
    """It was answered; a policy in mode log does not allow it."""
    DENIED = "denied"


class AccessCounts(Outbound):
    """How often something was used.

    Attributes:
        kind: An `AccessKind`, also of a later version.
    """

    kind: str
    allowed: int = 0
    would_be_denied: int = 0
    denied: int = 0

    @property
    def total(self) -> int:
        """All calls."""
        return self.allowed + self.would_be_denied + self.denied


class Access(AccessCounts):
    """How often one name was used.

    Attributes:
        dags: Some of the DAGs whose jobs used it.
        has_more_dags: There were others.
    """

    name: str
    first_at: Instant
    last_at: Instant
    dags: tuple[str, ...] = ()
    has_more_dags: bool = False


class AccessDay(Outbound):
    """What was used on one day, as stored.

    Attributes:
        others: What was used beyond `MAX_NAMES`, or with too long a name, by kind.
        batches: By keeper, the number of the last batch that was added: one that was added and whose confirmation was
            lost is not added again.
    """

    accesses: tuple[Access, ...] = ()
    others: tuple[AccessCounts, ...] = ()
    batches: dict[str, int] = Field(default_factory=dict)


def add_day(first: AccessDay, second: AccessDay) -> AccessDay:
    """Both together; names of the first come first if there are too many. Batches are those of the first."""
    known = {(one.kind, one.name): one for one in first.accesses}
    others = {one.kind: one for one in first.others}
    for one in second.others:
        _count_other(others, one)
    for one in second.accesses:
        key = (one.kind, one.name)
        if (before := known.get(key)) is not None:
            known[key] = _sum(before, one)
        elif len(known) < MAX_NAMES and is_short(one.name):
            known[key] = one
        else:
            _count_other(others, one)
    return AccessDay(accesses=tuple(known.values()), others=tuple(others.values()), batches=first.batches)


def add_batch(day: AccessDay, keeper: str, number: int, batch: AccessDay) -> AccessDay:
    """A day with a keeper's next batch; unchanged if it was added before."""
    if day.batches.get(keeper, 0) >= number:
        return day
    batches = {name: last for name, last in day.batches.items() if name != keeper}
    batches = dict([*batches.items(), (keeper, number)][-MAX_BATCHES:])
    return add_day(day, batch).model_copy(update={"batches": batches})


def add_all(days: Iterable[AccessDay]) -> tuple[list[Access], list[AccessCounts]]:
    """The accesses of several days, by kind and name, and what was counted without a name. Without a limit."""
    known: dict[tuple[str, str], Access] = {}
    others: dict[str, AccessCounts] = {}
    for day in days:
        for one in day.accesses:
            before = known.get((one.kind, one.name))
            known[one.kind, one.name] = one if before is None else _sum(before, one)
        for other in day.others:
            _count_other(others, other)
    return [known[key] for key in sorted(known)], [others[kind] for kind in sorted(others)]


def _count_other(others: dict[str, AccessCounts], one: AccessCounts) -> None:
    others[one.kind] = AccessCounts(kind=one.kind, **_counts(others.get(one.kind), one))


def _counts(first: AccessCounts | None, second: AccessCounts) -> Mapping[str, int]:
    return {
        outcome.value: getattr(second, outcome) + (0 if first is None else getattr(first, outcome))
        for outcome in AccessOutcome
    }


def _sum(first: Access, second: Access) -> Access:
    dags = tuple(dict.fromkeys((*first.dags, *second.dags)))
    return Access(
        kind=first.kind,
        name=first.name,
        first_at=min(first.first_at, second.first_at),
        last_at=max(first.last_at, second.last_at),
        dags=dags[:MAX_DAGS],
        has_more_dags=first.has_more_dags or second.has_more_dags or len(dags) > MAX_DAGS,
        **_counts(first, second),
    )


def is_short(name: str) -> bool:
    """Whether a name of a thing or a DAG is counted as it is."""
    return len(json.dumps(name, ensure_ascii=False).encode()) <= MAX_NAME_BYTES
