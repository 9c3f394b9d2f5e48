"""Parts of sentences: names, lists, moments and spans, without a character that could harm a terminal or a log."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from edge_schemas.admin.desired import AvailabilityOrder
from edge_schemas.admin.why import Cause, CauseCode
from edge_schemas.wire.jobs import TaskIdentity

MAX_NAMED = 5
MAX_QUOTED_CHARS = 200
MAX_TEXT_CHARS = 1_000
MAX_FACT_NAMES = 100
"""Names in a list of facts; their number is another fact."""
Fact = str | int | float | bool | None | list[str]


def cause(code: CauseCode, text: str, since: datetime | None = None, **facts: Fact) -> Cause:
    """A cause whose text and facts can be printed anywhere."""
    return Cause(
        code=code,
        text=clean(text, MAX_TEXT_CHARS),
        since=since,
        facts={name: _clean_fact(value) for name, value in facts.items() if value is not None},
    )


def _clean_fact(value: Fact) -> Fact:
    if isinstance(value, str):
        return clean(value)
    return [clean(name) for name in value[:MAX_FACT_NAMES]] if isinstance(value, list) else value


def clean(text: str, most: int = MAX_QUOTED_CHARS) -> str:
    """The text on one line, without control characters, and not longer than `most`.

    Reasons and names are written by users and workers.
    """
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * most])
    line = " ".join(printable.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def short_digest(digest: str) -> str:
    """A digest as people compare it: its first characters."""
    return digest[:12]


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    shown = ", ".join(clean(name) for name in names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def moment(at: datetime, now: datetime) -> str:
    """A time of today, or with its date."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def span(seconds: float) -> str:
    """A duration, rounded down to what people would say."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def since_text(at: datetime | None, now: datetime) -> str:
    """Since when, for the end of a clause; empty if that is not known."""
    return "" if at is None else f" since {moment(at, now)}"


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    """The earliest of the known times."""
    return min((at for at in times if at is not None), default=None)


def order_text(order: AvailabilityOrder, now: datetime) -> str:
    """Who gave an order, until when, and why."""
    until = "until an operator ends it" if order.until is None else f"until {moment(order.until, now)}"
    reason = clean(order.reason)
    return f"{order.availability} by {clean(order.by)} {until}" + (f": {reason}" if reason else "")


def task_text(task: TaskIdentity) -> str:
    """`dag.task` with map index."""
    index = "" if task.map_index < 0 else f"[{task.map_index}]"
    return clean(f"{task.dag_id}.{task.task_id}{index}")


def full_task_text(task: TaskIdentity) -> str:
    """`dag.task` with map index, run and try."""
    return clean(f"{task_text(task)}, run {task.run_id}, try {task.try_number}", MAX_TEXT_CHARS)
