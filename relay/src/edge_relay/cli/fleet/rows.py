"""Parts of rows that several commands show."""

from collections.abc import Iterable, Iterator

from edge_relay.cli.output import printable
from edge_relay.cli.show.screen import Colour, Screen, words
from edge_relay.cli.show.table import cell_width
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.desired import AvailabilityOrder
from edge_schemas.admin.rows import SiteState
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.workers import WorkerState

WORKER_COLOURS: dict[WorkerState, Colour] = {
    WorkerState.NEVER_SEEN: Colour.FAINT,
    WorkerState.ONLINE: Colour.GOOD,
    WorkerState.UNHEALTHY: Colour.BAD,
    WorkerState.PAUSED: Colour.WARNING,
    WorkerState.DRAINING: Colour.WARNING,
    WorkerState.OFFLINE: Colour.BAD,
    WorkerState.CONFLICT: Colour.BAD,
    WorkerState.REVOKED: Colour.FAINT,
}
SITE_COLOURS: dict[SiteState, Colour] = {
    SiteState.EMPTY: Colour.FAINT,
    SiteState.ONLINE: Colour.GOOD,
    SiteState.DEGRADED: Colour.WARNING,
    SiteState.OFFLINE: Colour.BAD,
}
JOB_COLOURS: dict[JobState | Verdict, Colour] = {
    JobState.RUNNING: Colour.GOOD,
    JobState.STOPPING: Colour.WARNING,
    Verdict.SUCCEEDED: Colour.GOOD,
    Verdict.FAILED: Colour.BAD,
    Verdict.LOST: Colour.BAD,
    Verdict.CANCELLED: Colour.WARNING,
}
_BARS = "▁▂▃▄▅▆▇█"


def figure(value: int | None) -> str:
    """A number that may not be known."""
    return "-" if value is None else f"{value:,}"


def order_text(order: AvailabilityOrder, on: Screen, *, whose: str = "") -> str:
    """What an operator has ordered, until when and why."""
    of = f"{whose} " if whose else ""
    until = "" if order.until is None else f" until {on.until(order.until)}"
    return f"{of}{order.availability.value} by {order.by}{until}: {order.reason}"


def facts(found: Iterable[tuple[str, str]], on: Screen) -> Iterator[str]:
    """Names and values, one on each line."""
    pairs = list(found)
    width = max((cell_width(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        yield f"{on.paint(name.ljust(width), Colour.FAINT)}  {printable(value)}"


def event_line(event: AuditEvent, on: Screen) -> str:
    """An event of the audit on one line."""
    reason = f": {event.reason}" if event.reason else ""
    text = f"{event.action} {event.target} by {event.actor.kind.value} {event.actor.name}{reason}"
    return printable(f"{on.moment(event.at)}  {text}")


def sparkline(values: tuple[int, ...]) -> str:
    """The last numbers as bars; empty if there are none."""
    most = max(values, default=0)
    return "".join(_BARS[0 if most == 0 else round(value / most * (len(_BARS) - 1))] for value in values[-20:])


def seconds(value: float | None, default: str) -> str:
    """A duration of a setting, or what its default is."""
    return default if value is None else words(value)
