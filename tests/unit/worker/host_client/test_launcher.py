"""What a task host is started with."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_worker.host_client.launcher import HostSetup


@pytest.fixture
def setup(tmp_path: Path) -> HostSetup:
    return HostSetup(
        runtime_python=tmp_path / "bin/python",
        runtime_dir=Path("/run/edge"),
        state_dir=tmp_path / "state",
        gateway_socket=Path("/run/edge/gw.sock"),
        env={"PATH": "/bin", "EDGE_RELAY_JOB": "of somebody else"},
        bundles={"dags": "/srv/dags"},
        hostname="press-17",
    )


def test_environment_is_what_is_given_and_what_airflow_needs(setup: HostSetup) -> None:
    environment = setup.environment()
    rest = {name: value for name, value in environment.items() if not name.startswith("AIRFLOW")}
    assert rest == {"PATH": "/bin"}
    assert environment["AIRFLOW_HOME"] == str(setup.state_dir / "airflow")
    assert environment["AIRFLOW__LOGGING__REMOTE_LOGGING"] == "False"


def test_a_sites_airflow_settings_hold_but_for_those_that_survival_needs(setup: HostSetup) -> None:
    mine = {"AIRFLOW_HOME": "/opt/airflow", "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "1"}
    environment = replace(setup, env=mine).environment()
    assert environment["AIRFLOW_HOME"] == "/opt/airflow"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite:////opt/airflow/airflow.db"
    assert environment["AIRFLOW__CORE__TASK_SUCCESS_OVERTIME"] == "2592000"


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"PATH": "/usr/bin"}},
        {"bundles": {"dags": "/srv/other"}},
        {"hostname": "press-18"},
        {"gateway_socket": Path("/run/other/gw.sock")},
    ],
)
def test_other_setup_other_fingerprint(setup: HostSetup, change: dict[str, object]) -> None:
    assert setup.fingerprint() == replace(setup).fingerprint()
    # Field and value come from the parameters.
    assert replace(setup, **change).fingerprint() != setup.fingerprint()  # type: ignore[arg-type]


def test_runtime_upgraded_in_place_changes_the_fingerprint(setup: HostSetup, tmp_path: Path) -> None:
    before = setup.fingerprint()
    (tmp_path / "lib/python3.11/site-packages/apache_airflow-3.3.3.dist-info").mkdir(parents=True)
    assert setup.fingerprint() != before


def test_runtime_folder_may_be_as_long_as_the_gateways_socket_allows(setup: HostSetup) -> None:
    longest = replace(setup, runtime_dir=Path("/" + "x" * 98))
    assert len(str(longest.socket())) == 107
    with pytest.raises(ValueError, match="choose a shorter runtime folder"):
        replace(setup, runtime_dir=Path("/" + "x" * 99)).socket()
