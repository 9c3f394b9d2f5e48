"""How the relay logs: one JSON object a line, or coloured lines on a terminal.

Tracebacks are rendered without the values of local variables: those hold passwords, credentials and payloads.
"""

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logging(level: str, log_format: str = "auto") -> None:
    """Send the events of this process, and what libraries log, to standard error in one format.

    Args:
        level: Least severity, in lower case.
        log_format: `json`, `console`, or `auto`: console on a terminal.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(console=console)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def server_logger() -> logging.Logger:
    """For aiohttp's server: it logs what is no HTTP with a traceback that quotes what came, credentials included."""
    logger = logging.getLogger("edge_relay.http")
    if not logger.filters:
        logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True


def _renderers(*, console: bool) -> list[Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
