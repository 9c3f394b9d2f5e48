"""What holds for every test: no setting, proxy or credential of the machine reaches it."""

import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from local.system import ports
from support.airflow.fixtures import airflow, nats_for_logs
from support.system import whole_system
from support.system.whole_system import beside, system

__all__ = ["airflow", "beside", "nats_for_logs", "system"]

_OURS = ("AIRFLOW_", "BRIDGE_", "EDGE_WORKER_", "NATS_", "RELAY_")
_PREFERRED_PORTS = (3128, 8080, 8799)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def pytest_configure(config: pytest.Config) -> None:
    """Take away what would make a test pass on one machine and fail on another.

    Before anything is collected: Airflow reads its settings, and writes a home folder, when it is imported.
    """
    for name in list(os.environ):
        if name.startswith(_OURS) or name.lower() in _PROXIES:
            del os.environ[name]
    # A system that other tests start at the same time may choose them, too, and listens only much later.
    ports._given.update(_PREFERRED_PORTS)
    home = tempfile.TemporaryDirectory(prefix="edge-relay-tests-")
    config.add_cleanup(home.cleanup)
    os.environ["AIRFLOW_HOME"] = home.name
    whole_system.configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prepare what shares one whole system."""
    whole_system.mark(items)


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that runs a command in this process, which configures logging, changes nothing for the tests after it.

    A logger that was cached when it was first used would not be captured by any later test.
    """
    configure, before, root = structlog.configure, structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
