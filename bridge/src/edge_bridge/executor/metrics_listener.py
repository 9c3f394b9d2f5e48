"""`[edge_relay] metrics_port`: the executors' metrics for Prometheus, over HTTP, in a thread of their own.

One listener for all executors of a process. Whatever happens to it, the scheduler continues.
"""

import threading
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from edge_bridge.settings import SECTION

log = structlog.get_logger(__name__)

_lock = threading.Lock()
_server: WSGIServer | None = None


def listen(registry: CollectorRegistry, host: str, port: int) -> bool:
    """Serve `/metrics`, unless this process does so already.

    Args:
        registry: What is served.
        host: An address of this machine.
        port: 0 chooses a free port, which is logged.

    Returns:
        Whether this call started the listener; then its caller has to call `close()`.
    """
    global _server  # the port belongs to the process, not to one of its executors
    with _lock:
        if _server is not None:
            return False
        try:
            _server, _ = start_http_server(port, addr=host, registry=registry)
        except (OSError, OverflowError) as error:
            log.error(  # noqa: TRY400  # a port in use needs no stack trace
                "metrics_not_served",
                host=host,
                port=port,
                error=str(error),
                hint=f"choose a free [{SECTION}] metrics_port, and an address of this machine as metrics_host",
            )
            return False
        log.info("metrics_served", host=host, port=_server.server_port)
        return True


def close() -> None:
    """Stop the listener that `listen()` started."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.shutdown()
        server.server_close()
