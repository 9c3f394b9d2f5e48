"""Fails a test if our code makes a blocking call in an event loop, where it would hold up everything else."""

from collections.abc import Iterator
from contextlib import contextmanager

from blockbuster import BlockBuster

CENTRE = ("edge_broker", "edge_bridge", "edge_relay", "edge_service")
ALLOWED: dict[str, tuple[str, set[str]]] = {
    "A log line is written to the standard output.": ("structlog/_base.py", {"_proxy_to_logger"}),
    "As above, through the standard library.": ("logging/__init__.py", {"handle"}),
    "A relay reads its files before it serves anybody.": ("edge_relay/serve.py", {"serving"}),
    "The same, for its metrics and secrets.": ("edge_relay/app.py", {"_parts"}),
    "A certificate that was renewed is a small file.": ("edge_relay/metrics/process.py", {"add_certificate"}),
    "A standalone relay, and tests, make their own certificates first.": ("edge_relay/standalone/tls.py", {"ensure"}),
    "The same with the configuration of a nats-server.": ("edge_relay/standalone/nats_server.py", {"start"}),
    "The same with its program.": ("edge_relay/standalone/nats_server.py", {"find_binary"}),
    "GET /v1/worker reads the relay's version from its installation.": (
        "edge_relay/http/handlers/worker.py",
        {"show"},
    ),
    "A scrape reads /proc, which is no disk.": ("prometheus_client/process_collector.py", {"collect"}),
    "A command reads its settings first; it serves nobody.": ("edge_relay/cli/__init__.py", {"main"}),
    "A keeper reads its version from its installation, at its start and for each scrape.": (
        "edge_bridge/keeper/metrics.py",
        {"_connection"},
    ),
    "A keeper reads Airflow's signing key before it answers anybody.": (
        "edge_bridge/keeper/tokens.py",
        {"mint_from_config"},
    ),
    "The executor's methods run in the scheduler's thread, which has no event loop but in tests.": (
        "edge_bridge/executor/relay_executor.py",
        {"start", "sync", "terminate", "end", "try_adopt_task_instances"},
    ),
}
"""Where a blocking call is no mistake, and why."""
SMALL_FILES = ("os.", "io.")
"""The worker keeps its state in small files on a local disk, and reads and writes them in its loop on purpose."""
LOCKS = "threading."
"""A thread that is started is waited for until it runs: microseconds."""


@contextmanager
def no_blocking_calls() -> Iterator[None]:
    """While the context lasts, a blocking call of ours in an event loop raises `BlockingError`."""
    centre, worker = BlockBuster(CENTRE), BlockBuster("edge_worker")
    for name in list(centre.functions):
        if name.startswith(LOCKS):
            del centre.functions[name]
    for function in centre.functions.values():
        for file, functions in ALLOWED.values():
            function.can_block_in(file, functions)
    for name in list(worker.functions):
        if name.startswith((LOCKS, *SMALL_FILES)):
            del worker.functions[name]
    centre.activate()
    try:
        with _on_top(worker):
            yield
    finally:
        centre.deactivate()


@contextmanager
def _on_top(worker: BlockBuster) -> Iterator[None]:
    """What was replaced once is replaced again, and put back in turn."""
    for function in worker.functions.values():
        function.original_func = getattr(function.module, function.func_name, None)
    worker.activate()
    try:
        yield
    finally:
        worker.deactivate()
