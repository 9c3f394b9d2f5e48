"""Imports once what every task needs, so that a fork starts with it.

What is imported here must leave the process single-threaded and without open connections: a lock held by a thread that
a fork does not have is never released, and two processes cannot share a connection.
"""

import contextlib
import ctypes
import gc
import importlib
import logging
import sys
import threading
import types
from typing import BinaryIO, cast

from edge_worker.task_host.log_file import BestEffortOutput

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
"""The most of a supervisor's own output, and of the host's own log, that is kept."""

_log = logging.getLogger("edge_worker.task_host")

_NEEDED = (
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "airflow.dag_processing.bundles.manager",
    "airflow.dag_processing.bundles.local",
    "airflow.sdk.log",
)
_USUAL = (
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.mappedoperator",
    "airflow.sdk.definitions.param",
    "airflow.sdk.definitions.taskgroup",
    "airflow.sdk.definitions.variable",
    "airflow.sdk.definitions.xcom_arg",
    "airflow.sdk.execution_time.secrets.execution_api",
    "airflow.sdk.execution_time.xcom",
    "airflow.sdk.plugins_manager",
    "airflow.sdk.serde",
    "airflow.secrets.environment_variables",
    "airflow.serialization.serialized_objects",
    "airflow.providers.standard.decorators.bash",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.bash",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "jinja2.ext",
    "pendulum",
)

HOSTNAME_MODULE = "edge_relay_hostname"
"""A module without a file; the configuration in this process's memory names its function `get`."""
_CONFIGURATIONS = ("airflow.configuration", "airflow.sdk.configuration")
"""Before Airflow 3.2 the SDK has none of its own."""


def preload(hostname: str) -> str:
    """Imports the Task SDK and what tasks commonly use, and excludes it from garbage collection in forks.

    Otherwise the collector would copy those pages in each fork.

    Args:
        hostname: What Airflow receives as the hostname. It is unique, so that Airflow distinguishes the processes of
            two workers. User code that asks the machine for its name gets the machine's.

    Returns:
        Airflow's version.

    Raises:
        ImportError: The interpreter has no Airflow, or one without the Task SDK.
    """
    for name in _NEEDED:
        importlib.import_module(name)
    _provide_hostname(hostname)
    for name in _USUAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _warm_up()
    _check_single_threaded()
    gc.collect()
    gc.freeze()
    version: str = importlib.import_module("airflow").__version__
    return version


def _provide_hostname(hostname: str) -> None:
    """Names the worker in this process and its forks; the interpreter of a task with `run_as_user` lacks the module."""
    module = types.ModuleType(HOSTNAME_MODULE, "The hostname that this worker's tasks report.")
    vars(module)["get"] = lambda: hostname
    sys.modules[HOSTNAME_MODULE] = module
    for name in _CONFIGURATIONS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name).conf.set("core", "hostname_callable", f"{HOSTNAME_MODULE}.get")


def _warm_up() -> None:
    """Does what each task would otherwise do itself: read plugins and providers, set up logs, load certificates."""
    from airflow.sdk import log

    # Without this the supervisor would log at debug level and unmasked, secrets included.
    log.configure_logging(json_output=True, output=cast("BinaryIO", BestEffortOutput(1, MAX_OUTPUT_BYTES)))
    log.load_remote_log_handler()
    # The SDK does not promise these names; where they are missing, each task does it itself.
    with contextlib.suppress(AttributeError):
        importlib.import_module("airflow.sdk.execution_time.task_runner").get_listener_manager()
    client = importlib.import_module("airflow.sdk.api.client")
    with contextlib.suppress(AttributeError):
        client.Client._get_ssl_context_cached(client.API_SSL_CA_FILE_PATH, client.API_SSL_CERT_PATH)  # noqa: SLF001
    ctypes.CDLL(None)


def _check_single_threaded() -> None:
    threads = [thread.name for thread in threading.enumerate()]
    if len(threads) > 1:
        # A plugin of the runtime may start threads. Most do no harm in a fork, unless they hold a lock at that moment.
        _log.warning("the runtime's plugins started threads before any task did: %s", ", ".join(threads))
