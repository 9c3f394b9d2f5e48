"""One real Airflow for all tests that ask for `airflow`, whichever folder they are in: its start takes a while."""

from collections.abc import Iterator

import pytest

from support.airflow.real_airflow import RealAirflow, running_airflow
from support.nats.server import PASSWORDS
from support.nats.sync_nats import RunningNats, log_server


@pytest.fixture(scope="session")
def nats_for_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNats]:
    """The NATS that Airflow's api-server reads logs from; lives as long as it."""
    with log_server(tmp_path_factory.mktemp("nats-for-logs")) as running:
        yield running


@pytest.fixture(scope="session")
def airflow(nats_for_logs: RunningNats) -> Iterator[RealAirflow]:
    """Airflow's database and api-server, with our log reader in it."""
    settings = {
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "edge_bridge.log_config.LOGGING_CONFIG",
        "AIRFLOW__EDGE_RELAY__NATS_URLS": nats_for_logs.url,
        "AIRFLOW__EDGE_RELAY__READER_PASSWORD": PASSWORDS["reader"],
        # Tests have no log server.
        "AIRFLOW__API__LOG_FETCH_TIMEOUT_SEC": "1",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,edge:edge_bridge.executor.RelayExecutor",
    }
    with running_airflow(settings) as running:
        yield running
