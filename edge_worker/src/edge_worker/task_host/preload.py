"""Import once what every task needs, so that a fork starts with it.

What is imported here must leave the process single-threaded and without a client of anything: a lock held by a thread
that a fork does not have is never released, and a connection shared by two processes is nobody's.
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

from edge_worker.task_host.log_file import SureOutput

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
"""Of what a supervisor says of itself, and of the host's own log."""

_log = logging.getLogger("edge_worker.host_client.client")

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
"""Lives in memory only; `AIRFLOW__CORE__HOSTNAME_CALLABLE` names its function `get`."""


def preload(worker: str) -> str:
    """Import the Task SDK and what tasks commonly use, then keep the collector from copying those pages in each fork.

    Args:
        worker: Its name, which Airflow is told as the hostname: unique, so that no other worker's process can be taken
            for this one's.

    Returns:
        Airflow's version.

    Raises:
        ImportError: The interpreter has no Airflow, or one without the Task SDK.
    """
    _provide_hostname(worker)
    for name in _NEEDED:
        importlib.import_module(name)
    for name in _USUAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _warm_up()
    _check_single_threaded()
    gc.collect()
    gc.freeze()
    version: str = importlib.import_module("airflow").__version__
    return version


def _provide_hostname(worker: str) -> None:
    module = types.ModuleType(HOSTNAME_MODULE, "The hostname that this worker's tasks report.")
    module.get = lambda: worker  # type: ignore[attr-defined]
    sys.modules[HOSTNAME_MODULE] = module


def _warm_up() -> None:
    """Do what each task would otherwise do for itself: read plugins and providers, set up logs, load certificates."""
    from airflow.sdk import log

    # Without this the supervisor would log at debug level and unmasked, secrets included.
    log.configure_logging(json_output=True, output=cast("BinaryIO", SureOutput(1, MAX_OUTPUT_BYTES)))
    log.load_remote_log_handler()
    # Not promised by the SDK; where they are missing, each task does it for itself.
    with contextlib.suppress(AttributeError):
        importlib.import_module("airflow.sdk.execution_time.task_runner").get_listener_manager()
    client = importlib.import_module("airflow.sdk.api.client")
    with contextlib.suppress(AttributeError):
        client.Client._get_ssl_context_cached(client.API_SSL_CA_FILE_PATH, client.API_SSL_CERT_PATH)  # noqa: SLF001
    ctypes.CDLL(None)


def _check_single_threaded() -> None:
    threads = [thread.name for thread in threading.enumerate()]
    if len(threads) > 1:
        # A plugin of the runtime may do this. Most threads do no harm in a fork; one that holds a lock then does.
        _log.warning("the runtime's plugins started threads before any task did: %s", ", ".join(threads))
