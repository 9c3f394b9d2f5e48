"""What a command prints to: its width, its colours, and how times are written."""

import os
import shutil
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple, TextIO

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


class Colour(Enum):
    """Colours by meaning."""

    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    FAINT = "2"
    STRONG = "1"


class Cell(NamedTuple):
    """A text with a colour."""

    text: str
    colour: Colour | None = None


@dataclass
class Screen:
    """Where a command prints to.

    Attributes:
        width: Columns of the terminal; None if it is none: nothing is cut then.
        height: Lines of the terminal.
        exact: Write times as ISO 8601 in UTC, not in words.
        now: The time to which "ago" refers.
    """

    width: int | None = None
    height: int = 24
    colours: bool = False
    exact: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def paint(self, text: str, colour: Colour | None) -> str:
        """The text in this colour, if colours are wanted."""
        return f"\x1b[{colour.value}m{text}\x1b[0m" if self.colours and colour is not None else text

    def ago(self, at: datetime | None, *, never: str = "never") -> str:
        """How long ago it was."""
        if at is None or self.exact:
            return never if at is None else iso(at)
        return f"{words((self.now - at).total_seconds())} ago"

    def since(self, at: datetime | None, *, never: str = "-") -> str:
        """How long it has lasted."""
        if at is None or self.exact:
            return never if at is None else iso(at)
        return words((self.now - at).total_seconds())

    def until(self, at: datetime) -> str:
        """When it ends: in local time with what is left, or exactly."""
        if self.exact:
            return iso(at)
        return f"{local(at, self.now)} (in {words((at - self.now).total_seconds())})"

    def moment(self, at: datetime) -> str:
        """The instant."""
        return iso(at) if self.exact else f"{at.astimezone(UTC):%F %T} UTC"


def screen(*, exact: bool = False, stream: TextIO | None = None) -> Screen:
    """The screen behind standard output. `NO_COLOR` and `TERM=dumb` switch colours off."""
    stream = stream or sys.stdout
    if not stream.isatty():
        return Screen(exact=exact)
    size = shutil.get_terminal_size()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Screen(width=size.columns, height=size.lines, colours=not plain, exact=exact)


def iso(at: datetime) -> str:
    """The instant in UTC, as ISO 8601."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def local(at: datetime, now: datetime) -> str:
    """The instant in local time, without the date if it is today."""
    here = at.astimezone()
    return f"{here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%F %H:%M}"


def words(seconds: float) -> str:
    """A duration in the largest unit of which there are at least two."""
    whole = max(0, int(seconds))
    for unit, size in _UNITS:
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
