"""The page's rights with the auth manager of FAB, in an environment of its own.

FAB brings Flask and some thirty other packages, which no other test needs. The environment is installed from the
package index, with the Airflow of this one, or named by `EDGE_TEST_FAB_PYTHON`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from support.airflow.page_airflow import PageAirflow, page_airflow
from support.operators.recording_relay import TOKEN, FakeOperators

ROOT = Path(__file__).parents[3]
PROVIDER = "apache-airflow-providers-fab>=3.10,<4"
ROLES = {"viewer": "viewer", "user": "viewer", "op": "operator", "admin": "admin"}
ADD_USERS = """
import sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    for name in sys.argv[1:]:
        role = builder.sm.find_role(name.title())
        assert builder.sm.add_user(name, name, "x", f"{name}@example.org", role, password=name)
"""
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fab_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with Airflow, FAB and our packages."""
    if given := os.environ.get("EDGE_TEST_FAB_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("fab") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin/python")
    same = [f"{name}=={version(name)}" for name in ("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk")]
    own = ["-e", f"{ROOT}/schemas[broker]", "-e", f"{ROOT}/bridge"]
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, PROVIDER, *same, *own]
    subprocess.run(command, check=True)
    return python


@pytest.fixture(scope="module")
def airflow_with_fab(
    fab_python: str, operators: FakeOperators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageAirflow]:
    """An api-server with one user of each of FAB's roles."""
    settings = {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__EDGE_RELAY__OPERATORS_URLS": operators.url,
        "AIRFLOW__EDGE_RELAY__OPERATORS_TOKEN": TOKEN,
    }
    home = tmp_path_factory.mktemp("airflow-with-fab")
    with page_airflow(home, settings, python=fab_python, prepare=[["-c", ADD_USERS, *ROLES]]) as running:
        yield running


@pytest.mark.parametrize("user", ROLES)
def test_roles(airflow_with_fab: PageAirflow, relay: FakeOperators, user: str) -> None:
    may_change = user in {"op", "admin"}
    with airflow_with_fab.browser(user) as client:
        session = client.get("/edge-relay/v1/admin/session").json()
        assert (session["name"].split()[0], session["role"]) == (user, ROLES[user])
        changed = client.post("/edge-relay/v1/admin/worker-actions", json={"do": "pause"})
        assert changed.status_code == (200 if may_change else 403)
        assert client.get("/edge-relay/ui/").status_code == 200
    assert len(relay.calls("/v1/admin/worker-actions")) == may_change


def test_nobody_is_asked_to_sign_in(airflow_with_fab: PageAirflow) -> None:
    with airflow_with_fab.browser(None) as client:
        page = client.get("/edge-relay/ui/", headers={"Accept": "text/html"})
        assert page.status_code == 307
        assert "/auth/login/?next=http" in page.headers["location"]
        assert client.get("/edge-relay/v1/admin/session").status_code == 401
