"""Fails a test if our code makes a blocking call in an event loop: everything else in the loop would wait."""

from collections.abc import Iterator
from contextlib import contextmanager

from blockbuster import BlockBuster

CENTRE = ("edge_broker", "edge_bridge", "edge_relay", "edge_service")
ALLOWED: dict[str, tuple[str, set[str]]] = {
    "A log line is written to the standard output.": ("structlog/_base.py", {"_proxy_to_logger"}),
    "A log line is written through the standard library.": ("logging/__init__.py", {"handle"}),
    "A relay reads its files before it serves.": ("edge_relay/serve.py", {"serving"}),
    "A relay reads its secrets and its version before it serves.": ("edge_relay/app.py", {"build"}),
    "A renewed certificate is a small file.": ("edge_relay/metrics/process.py", {"add_certificate"}),
    "A standalone relay makes its certificates before it serves.": ("edge_relay/standalone/tls.py", {"ensure"}),
    "A standalone relay writes the configuration of its nats-server before it serves.": (
        "edge_relay/standalone/nats_server.py",
        {"start"},
    ),
    "A standalone relay finds the program nats-server before it serves.": (
        "edge_relay/standalone/nats_server.py",
        {"find_binary"},
    ),
    "A scrape reads /proc, which is no disk.": ("prometheus_client/process_collector.py", {"collect"}),
    "A command reads its settings, and has nothing else to do.": ("edge_service/closed_pipe.py", {"run_until_closed"}),
    "A keeper reads its version from its installation, at its start and for each scrape.": (
        "edge_bridge/keeper/metrics.py",
        {"_connection"},
    ),
    "A program reads the small files that its settings name before it serves.": (
        "edge_service/text_files.py",
        {"read_text_file"},
    ),
    "A doctor reads the keys that sign jobs, and has nothing else to do.": (
        "edge_bridge/doctor/settings_checks.py",
        {"signing_finding"},
    ),
    "A keeper reads Airflow's signing key before it serves.": (
        "edge_bridge/keeper/tokens.py",
        {"mint_from_config"},
    ),
    "The executor's methods run in the scheduler's thread. Only in tests it has an event loop.": (
        "edge_bridge/executor/relay_executor.py",
        {"start", "sync", "terminate", "end", "try_adopt_task_instances"},
    ),
    "The executor's metrics are created in the scheduler's thread.": ("edge_bridge/executor/metrics.py", {"__init__"}),
}
"""Reasons for allowed blocking calls, and where they are: a file and its functions."""
SMALL_FILES = ("os.", "io.")
"""The worker keeps its state in small files on a local disk, and reads and writes them in its loop on purpose."""
LOCKS = "threading."
"""Starting a thread waits until it runs: microseconds."""


@contextmanager
def no_blocking_calls() -> Iterator[None]:
    """Within the context, a blocking call of our code in an event loop raises `BlockingError`."""
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
    """Replace the functions once more, on top of the first replacement, and restore them in reverse order."""
    for function in worker.functions.values():
        function.original_func = getattr(function.module, function.func_name, None)
    worker.activate()
    try:
        yield
    finally:
        worker.deactivate()
