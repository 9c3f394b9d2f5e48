"""What Airflow finds by its configured paths, and what an import costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_airflow_finds_the_executor_and_the_logging_configuration() -> None:
    from airflow._shared.module_loading import import_string

    from edge_bridge import log_config
    from edge_bridge.executor.relay_executor import RelayExecutor

    assert import_string("edge_bridge.executor.RelayExecutor") is RelayExecutor
    assert import_string("edge_bridge.log_config.LOGGING_CONFIG") is log_config.LOGGING_CONFIG


def test_the_package_of_the_executor_has_no_other_lazy_names() -> None:
    import edge_bridge.executor

    with pytest.raises(AttributeError, match="NoSuchExecutor"):
        edge_bridge.executor.NoSuchExecutor  # type: ignore[attr-defined]  # noqa: B018  # the error is the point


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("edge_bridge.provider_info", ("airflow", "edge_broker", "nats", "pydantic")),
        ("edge_bridge.executor.settings", ("airflow", "sqlalchemy", "edge_bridge.executor.relay_executor")),
        ("edge_bridge.doctor.checks", ("airflow", "sqlalchemy", "edge_bridge.executor.relay_executor")),
        ("edge_bridge.keeper.service", ("airflow", "sqlalchemy", "edge_bridge.executor", "edge_bridge.logs")),
        ("edge_bridge.log_config", ("nats", "edge_bridge.executor", "edge_bridge.keeper", "edge_bridge.doctor")),
    ],
)
def test_an_import_loads_only_what_it_needs(module: str, unwanted: tuple[str, ...], tmp_path: Path) -> None:
    """Each process of Airflow, a task's own included, imports the logging configuration; others import the settings."""
    code = (
        f"import sys, {module}; "
        f"print(*[m for m in sys.modules for u in {unwanted!r} if m == u or m.startswith(u + '.')])"
    )
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**ours, "AIRFLOW_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == ""
