"""Whose logs are whose."""

from collections.abc import Iterator

import pytest

from edge_bridge.logs.owner import executor_is_ours


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from airflow.executors.executor_loader import ExecutorLoader
    from airflow.executors.executor_utils import ExecutorName

    names = [
        ExecutorName("airflow.executors.local_executor.LocalExecutor", alias="LocalExecutor"),
        ExecutorName("edge_bridge.executor.RelayExecutor", alias="edge"),
        ExecutorName("not_installed.Executor", alias="away"),
    ]
    monkeypatch.setattr(ExecutorLoader, "get_executor_names", lambda **_: names)
    executor_is_ours.cache_clear()
    yield
    executor_is_ours.cache_clear()


def test_an_executor_that_is_not_installed_here_fails_no_log_page() -> None:
    """Airflow itself shows the logs of a finished task without its executor."""
    assert executor_is_ours("away") is None
    assert executor_is_ours("unknown") is None
    assert executor_is_ours("edge") is True
    assert executor_is_ours("LocalExecutor") is False
