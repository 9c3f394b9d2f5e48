"""What holds for every contract test."""

from collections.abc import Iterator

import pytest

from support.airflow.real_airflow import RealAirflow
from support.system.blocking import no_blocking_calls


@pytest.fixture(scope="module", autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """A blocking call of ours in an event loop fails the test."""
    with no_blocking_calls():
        yield


@pytest.fixture(scope="module", params=["fake", "real"])
def real_airflow(request: pytest.FixtureRequest) -> RealAirflow | None:
    """The real Airflow, where a backend needs it; None for the fake one."""
    if request.param == "fake":
        return None
    airflow: RealAirflow = request.getfixturevalue("airflow")
    return airflow
