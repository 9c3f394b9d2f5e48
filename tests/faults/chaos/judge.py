"""Compares what tasks wrote down with what Airflow says of them. Pure: whatever is wrong comes back as a sentence."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from faults.chaos.ledger import Instance, Life


@dataclass(frozen=True)
class Try:
    """A try as Airflow tells of it.

    Attributes:
        state: None where it has none, for one that was never queued.
        is_last: No newer one is known.
    """

    instance: Instance
    number: int
    state: str | None
    is_last: bool


def judge(lives: Sequence[Life], tries: Iterable[Try], *, right: str) -> list[str]:
    """What is wrong; empty if every task ended as its author would expect.

    Args:
        lives: All processes of user code.
        tries: All tries that Airflow knows.
        right: What each read must have come to.
    """
    of_instance: dict[Instance, list[Life]] = defaultdict(list)
    for life in lives:
        of_instance[life.instance].append(life)
    known: dict[Instance, list[Try]] = defaultdict(list)
    for each in tries:
        known[each.instance].append(each)
    problems = []
    for instance in sorted(known.keys() | of_instance.keys()):
        problems += _judge_lives(of_instance[instance], right)
        problems += _judge_tries(known[instance], of_instance[instance])
        if not known[instance]:
            problems.append(f"{instance} ran, and Airflow knows nothing of it")
    return problems


def twice_at_once(lives: Iterable[Life]) -> list[str]:
    """Pairs of processes of one task instance that lived at the same time."""
    problems = []
    ordered = sorted(lives, key=lambda life: (life.instance, life.began))
    for earlier, later in pairwise(ordered):
        if earlier.instance == later.instance and later.began < earlier.last_seen:
            overlap = earlier.last_seen - later.began
            problems.append(
                f"{earlier.instance} ran twice at once for at least {overlap:.2f} s: try {earlier.attempt} as process "
                f"{earlier.pid}, try {later.attempt} as process {later.pid}"
            )
    return problems


def _judge_lives(lives: Sequence[Life], right: str) -> list[str]:
    problems = twice_at_once(lives)
    attempts = [life.attempt for life in lives]
    problems += [
        f"{lives[0].instance}: user code of try {attempt} was started {attempts.count(attempt)} times"
        for attempt in sorted(set(attempts))
        if attempts.count(attempt) > 1
    ]
    problems += [
        f"{life.instance}: try {life.attempt} read {line.more['value']!r} instead of {right!r}"
        for life in lives
        for line in life.lines
        if line.event == "read" and line.more["value"] != right
    ]
    return problems


def _judge_tries(tries: Iterable[Try], lives: Sequence[Life]) -> list[str]:
    problems = []
    for each in tries:
        last = _last_events(lives, each.number)
        name = f"{each.instance}: try {each.number}"
        if each.is_last:
            problems += _spent(each, lives)
        if each.state == "success" and "end" not in last:
            problems.append(f"{name} is green in Airflow, and its user code did not come to its end ({last or 'none'})")
        if each.is_last and each.state not in {"success", "failed"}:
            problems.append(f"{name} has not ended: it is {each.state}")
        if each.is_last and each.state == "failed":
            problems.append(f"{name} was the last one, and failed ({last or 'none'})")
    return problems


def _spent(newest: Try, lives: Sequence[Life]) -> list[str]:
    """Tries that came to nothing by no fault of user code. Airflow keeps no history of one that never ran."""
    return [
        f"{newest.instance}: try {number} was spent, and its user code did not fail ({last or 'none'})"
        for number in range(1, newest.number)
        if "raise" not in (last := _last_events(lives, number))
    ]


def _last_events(lives: Iterable[Life], attempt: int) -> set[str]:
    return {life.events[-1] for life in lives if life.attempt == attempt and life.events}
