"""How relay and keeper log: one JSON object a line, or coloured lines on a terminal.

Tracebacks are rendered without the values of local variables, which may be tokens, passwords and payloads. This also
replaces the logging that Airflow configures before it runs a command of the keeper, whose tracebacks show them.
"""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog
from structlog.typing import Processor


def configure_logging(level: str, log_format: str = "auto") -> None:
    """Send the events of this process, and those of libraries, to standard error in one format.

    Our own events bypass the standard library's logging, which would cost more than the rest of a line.

    Args:
        level: Least severity, in any case; one that does not exist means `info`.
        log_format: `json`, `console`, or `auto`: console on a terminal.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(console=console)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)


class _StandardError:
    """The current standard error. Its reader may be gone: a lost line must not fail the work that it reports."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def _renderers(*, console: bool) -> list[Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
