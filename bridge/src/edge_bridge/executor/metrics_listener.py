"""`[edge_relay] metrics_port`: what executors count, for Prometheus, by HTTP in a thread of its own.

One listener for all executors of a process. Whatever happens to it, the scheduler goes on.
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
    """Serve `/metrics`, unless this process does so already; whether this call began it, and `close()` is its to call.

    Args:
        registry: What is served.
        host: An address of this machine.
        port: 0 takes a free one, which is logged.
    """
    global _server  # the port belongs to the process, not to one of its executors
    with _lock:
        if _server is not None:
            return False
        try:
            _server, _ = start_http_server(port, addr=host, registry=registry)
        except (OSError, OverflowError) as error:
            log.error(  # noqa: TRY400  # nobody needs the stack of a taken port
                "metrics_not_served",
                host=host,
                port=port,
                error=str(error),
                hint=f"choose a free [{SECTION}] metrics_port and an own address as metrics_host; tasks go on without",
            )
            return False
        log.info("metrics_served", host=host, port=_server.server_port)
        return True


def close() -> None:
    """End what `listen()` began."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is not None:
        server.shutdown()
        server.server_close()
