"""One api-server with the page for all tests here, and the relay that it calls."""

from collections.abc import Iterator

import httpx
import pytest

from support.airflow.page_airflow import PageAirflow, page_airflow
from support.operators.recording_relay import TOKEN, FakeOperators, fake_operators


@pytest.fixture(scope="session")
def operators() -> Iterator[FakeOperators]:
    """The relay that the api-server calls."""
    with fake_operators() as fake:
        yield fake


@pytest.fixture(scope="session")
def prepared_airflow(operators: FakeOperators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageAirflow]:
    """Set up as `docs/howto/airflow-page.md` says. The first relay of the two is down."""
    home = tmp_path_factory.mktemp("airflow-with-page")
    secrets = home / "secrets"
    secrets.mkdir()
    (secrets / "operators.token").write_text(f"{TOKEN}\n")
    settings = {
        "AIRFLOW__EDGE_RELAY__OPERATORS_URLS": f"http://127.0.0.1:1, {operators.url}/",
        "AIRFLOW__EDGE_RELAY__SECRETS_DIR": str(secrets),
    }
    with page_airflow(home, settings) as running:
        yield running


@pytest.fixture
def airflow_with_page(prepared_airflow: PageAirflow) -> PageAirflow:
    """The same for all tests; it is started again if the test before has stopped it."""
    prepared_airflow.server.start_if_stopped()
    return prepared_airflow


@pytest.fixture
def relay(operators: FakeOperators) -> FakeOperators:
    """The same relay, with nothing seen yet."""
    operators.seen.clear()
    return operators


@pytest.fixture
def viewer(airflow_with_page: PageAirflow) -> Iterator[httpx.Client]:
    """Of a user who may read."""
    with airflow_with_page.browser("viewer") as client:
        yield client


@pytest.fixture
def op(airflow_with_page: PageAirflow) -> Iterator[httpx.Client]:
    """Of a user who may operate."""
    with airflow_with_page.browser("op") as client:
        yield client


@pytest.fixture
def stranger(airflow_with_page: PageAirflow) -> Iterator[httpx.Client]:
    """Of nobody."""
    with airflow_with_page.browser(None) as client:
        yield client
