"""What options of commands accept: times, durations, sizes, lists, labels. Without imports that cost time."""

import argparse
import re
from datetime import datetime, timedelta

_TTL = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)")
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30}
_CLOCK = re.compile(r"(tomorrow )?([0-9]{1,2}):([0-9]{2})")
DEFAULT = "default"
"""Returns a setting of a queue to that of its executor."""


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def size(text: str) -> int:
    """Bytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 500M or 8G")
    return int(match[1]) << _SHIFT[match[2]]


def seconds(text: str) -> int:
    """A duration."""
    match = _TTL.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNIT_S[match[2]]


def seconds_or_never(text: str) -> int | None:
    """A duration; None for `never`."""
    return None if text == "never" else seconds(text)


def seconds_or_default(text: str) -> int | None:
    """A duration; None for `default`."""
    return None if text == DEFAULT else seconds(text)


def positive(text: str) -> int:
    """A number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)


def count_or_default(text: str) -> int | None:
    """A number; None for `default`."""
    if text == DEFAULT:
        return None
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, and not '{DEFAULT}'")
    return int(text)


def names_or_default(text: str) -> list[str] | None:
    """Names, separated by commas; None for `default`."""
    return None if text == DEFAULT else names(text)


def names(text: str) -> list[str]:
    """Names, separated by commas."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise argparse.ArgumentTypeError("names are missing: write A or A,B")
    return found


def label(text: str) -> tuple[str, str]:
    """A label with its value."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a label: write key=value")
    return key, value


def variable(text: str) -> tuple[str, str]:
    """An environment variable with its value."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a variable: write NAME=VALUE")
    return name, value


def instant(text: str) -> datetime:
    """A moment, in local time unless it has an offset: 18:00, tomorrow 8:00, 2026-12-01T08:00, or 2h from now."""
    return _instant(text, datetime.now().astimezone())


def past(text: str) -> str:
    """A moment in the past for `period`, which knows the other end: 08:00, 2026-12-01T08:00, or 2h ago."""
    _past(text, datetime.now().astimezone())
    return text


def period(since: str | None, until: str | None, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The newest period that has begun and whose ends have these names, each as `past` accepts them.

    A time of day as the end is the first one after the begin: `18:00` to `08:00` is a night, also while it lasts.
    """
    begin = None if since is None else _past(since, now)
    if until is None:
        return begin, None
    match = _CLOCK.fullmatch(until)
    if begin is None or match is None:
        return begin, _past(until, now)
    end = _at(begin, match)
    return begin, end if end > begin else _at(begin + timedelta(days=1), match)


def _past(text: str, now: datetime) -> datetime:
    if _TTL.fullmatch(text):
        return now - timedelta(seconds=seconds(text))
    if match := _CLOCK.fullmatch(text):
        at = _at(now, match)
        return at if at <= now else _at(now - timedelta(days=1), match)
    return _date(text)


def _instant(text: str, now: datetime) -> datetime:
    if _TTL.fullmatch(text):
        return now + timedelta(seconds=seconds(text))
    if match := _CLOCK.fullmatch(text):
        at = _at(now, match)
        # A time of day that is over today is meant for tomorrow.
        return _at(now + timedelta(days=1), match) if match[1] or at <= now else at
    at = _date(text)
    if at <= now:
        raise argparse.ArgumentTypeError(f"{text!r} is in the past")
    return at


def _at(day: datetime, match: re.Match[str]) -> datetime:
    """The time of day on this day. Its offset is that of the moment: the clocks may change in between."""
    try:
        bare = day.replace(hour=int(match[2]), minute=int(match[3]), second=0, microsecond=0, tzinfo=None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{match[0]!r} is not a time of day") from None
    return bare.astimezone()


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{text!r} is not a time: write 18:00, 2026-12-01T08:00 or 2h"
        raise argparse.ArgumentTypeError(msg) from None
    return found.astimezone()
