"""The logger of aiohttp's server, which must not quote requests. `edge_service.logging` configures the process."""

import logging


def server_logger() -> logging.Logger:
    """For aiohttp's server, without tracebacks: after bytes that are no HTTP they quote the request and its secrets."""
    logger = logging.getLogger("edge_relay.http")
    if not logger.filters:
        logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
