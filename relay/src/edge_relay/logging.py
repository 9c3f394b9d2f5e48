"""The logger of aiohttp's server, which must not quote what came; how the process logs is in `edge_service.logging`."""

import logging


def server_logger() -> logging.Logger:
    """For aiohttp's server: it logs what is no HTTP with a traceback that quotes what came, credentials included."""
    logger = logging.getLogger("edge_relay.http")
    if not logger.filters:
        logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
