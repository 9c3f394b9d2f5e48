"""What holds for every test: no setting, proxy or credential of the machine reaches it."""

import os

import pytest

_OURS = ("AIRFLOW_", "BRIDGE_", "EDGE_WORKER_", "NATS_", "RELAY_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what would make a test pass on one machine and fail on another."""
    for name in os.environ:
        if name.startswith(_OURS) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
