"""Logging: events are stable snake_case facts, values are fields.

One JSON object per line, or a short readable line where the output is a terminal. Built on the standard library's
`logging`, so that messages of aiohttp and asyncio have the same form.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from typing_extensions import override

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound_log_fields", default={})  # noqa: B039 - never modified


class EventLog:
    """Writes events of one module. Never pass a secret or a payload as a field."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """A step that helps to find a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """A change that is of interest to an operator."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """A failure that will be tried again, or a final refusal."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """A fault that a person must correct."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An unexpected error, with its traceback; to be called where it was caught."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: int, event: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, exc_info=exc_info, extra={"fields": {**_bound.get(), **fields}})


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Adds fields to every event of the current asyncio task and of those it starts."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "fields"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields of an event, from `EventLog` or from plain `extra=`."""
    plain = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {**plain, **getattr(record, "fields", {})}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `timestamp`, `level`, `event`, `logger` and the fields."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TerminalFormatter(logging.Formatter):
    """A line for people. Control characters in values are escaped: they may come from a proxy or from a task."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        fields = " ".join(f"{key}={_plain(value)}" for key, value in _fields(record).items())
        line = f"{at} {record.levelname.lower():<7} {_plain(record.getMessage())} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _plain(value: object) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def setup_logging(level: str, *, stream: TextIO = sys.stderr) -> None:
    """Sends the process's log to `stream`: readable on a terminal, JSON lines anywhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TerminalFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At debug level it only logs "Using selector", once per loop.
    logging.getLogger("asyncio").setLevel(max(root.level, logging.INFO))
