"""The logger of aiohttp's server, which must not quote requests. `edge_service.logging` configures the process."""

import logging
from collections.abc import Callable

from aiohttp.http_exceptions import HttpProcessingError


def server_logger(replica: str, on_malformed: Callable[[], None]) -> logging.Logger:
    """For aiohttp's server, without tracebacks: after bytes that are no HTTP they quote the request and its secrets.

    Args:
        replica: Whose server it is.
        on_malformed: Called instead of a line in the log for a request that is no HTTP.
    """
    parent = logging.getLogger("edge_relay.http")
    logger = parent.getChild(replica)
    logger.setLevel(logging.DEBUG)  # The server reports some malformed requests at this level.

    def accept(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        record.exc_info = record.exc_text = None
        if isinstance(error, HttpProcessingError):
            on_malformed()
            return False
        return record.levelno >= parent.getEffectiveLevel()

    logger.filters[:] = [accept]
    return logger
