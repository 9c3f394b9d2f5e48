"""An open page does not keep Airflow's api-server from stopping."""

import pytest

from support.airflow.page_airflow import PageAirflow
from support.operators.recording_relay import FakeOperators

CHANGES = "/edge-relay/v1/admin/changes"


@pytest.mark.timeout(240)
def test_the_api_server_stops_while_pages_are_open(airflow_with_page: PageAirflow, relay: FakeOperators) -> None:
    """It waits for its answers, up to two minutes."""
    with airflow_with_page.browser("viewer") as browser, browser.stream("GET", CHANGES) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: change"
        try:
            airflow_with_page.server.stop(timeout_s=40)
        finally:
            airflow_with_page.server.kill()
            airflow_with_page.server.start()
    assert len(relay.calls("/v1/admin/changes")) == 1
