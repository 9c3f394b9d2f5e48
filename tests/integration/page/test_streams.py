"""Server-sent events through Airflow's api-server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from edge_bridge.page.event_streams import MAX_STREAMS_OF_USER
from support.airflow.page_airflow import PageAirflow
from support.operators.recording_relay import FakeOperators

CHANGES = "/edge-relay/v1/admin/changes"
pytestmark = pytest.mark.timeout(180)


@contextmanager
def _stream(client: httpx.Client) -> Iterator[httpx.Response]:
    with client.stream("GET", CHANGES, headers={"Accept": "text/event-stream", "Accept-Encoding": "gzip"}) as answer:
        yield answer


def test_an_event_arrives_at_once_and_the_relay_is_left_with_the_browser(
    viewer: httpx.Client, relay: FakeOperators
) -> None:
    with _stream(viewer) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in answer.headers
        lines = answer.iter_lines()
        assert next(lines) == "event: change"
        assert relay.streams == 1
    relay.until_streams(0)


def test_streams_are_few_for_each_user_and_block_nobody(
    airflow_with_page: PageAirflow, viewer: httpx.Client, relay: FakeOperators
) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(_stream(viewer)).iter_lines() for _ in range(MAX_STREAMS_OF_USER)]
        assert [next(lines) for lines in opened] == ["event: change"] * MAX_STREAMS_OF_USER
        with _stream(viewer) as refused:
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "30"
        with airflow_with_page.browser("op") as other, _stream(other) as answer:
            assert next(answer.iter_lines()) == "event: change"
            assert other.get("/api/v2/monitor/health").status_code == 200
    relay.until_streams(0)
    with _stream(viewer) as answer:
        assert answer.status_code == 200


@pytest.mark.timeout(240)
def test_the_api_server_stops_while_pages_are_open(airflow_with_page: PageAirflow, relay: FakeOperators) -> None:
    """It waits for its answers, up to two minutes. The last test: it would have to be started again for another one."""
    with airflow_with_page.browser("viewer") as browser, browser.stream("GET", CHANGES) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: change"
        try:
            airflow_with_page.server.stop(timeout_s=40)
        finally:
            airflow_with_page.server.kill()
    assert len(relay.calls("/v1/admin/changes")) == 1
