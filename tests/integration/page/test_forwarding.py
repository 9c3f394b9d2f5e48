"""What passes between browser and relay, and what does not."""

import re
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from edge_ui.serving import FOREVER
from support.airflow.page_airflow import PageAirflow
from support.operators.recording_relay import FakeOperators

API = "/edge-relay/v1/admin"
pytestmark = pytest.mark.timeout(180)


def test_the_page_may_be_framed_by_airflow_only(viewer: httpx.Client) -> None:
    page = viewer.get("/edge-relay/ui/")
    assert page.status_code == 200
    assert '<script src="../airflow-frame.js" defer></script></head>' in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "frame-ancestors 'none'" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    script = viewer.get("/edge-relay/airflow-frame.js")
    assert script.headers["content-type"].startswith("text/javascript")


def test_the_page_is_this_installations_own(viewer: httpx.Client, relay: FakeOperators) -> None:
    """No relay is asked for what runs in Airflow's origin."""
    page = viewer.get("/edge-relay/ui/")
    assert viewer.get("/edge-relay/ui/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    assets = re.findall(r'"(assets/[0-9a-f]{16}/[^"]+)"', page.text)
    assert any(name.endswith("/js/main.js") for name in assets)
    for name in (assets[0], assets[-1]):
        asset = viewer.get(f"/edge-relay/ui/{name}")
        assert (asset.status_code, asset.headers["cache-control"]) == (200, FOREVER)
        assert "frame-ancestors 'self'" in asset.headers["content-security-policy"]
    moved = viewer.get("/edge-relay/ui/workers?state=offline")
    assert (moved.status_code, moved.headers["location"]) == (302, "./#/workers?state=offline")
    assert viewer.get("/edge-relay/ui/assets/1/js/none.js").status_code == 404
    assert relay.seen == []


def test_nothing_that_a_relay_sends_can_run(viewer: httpx.Client) -> None:
    answer = viewer.get(f"{API}/script")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'self'")
    for dropped in ("set-cookie", "server-secret", "location"):
        assert dropped not in answer.headers


def test_a_query_passes_as_it_was_sent(viewer: httpx.Client, relay: FakeOperators) -> None:
    answer = viewer.get(f"{API}/jobs?dag=a%2Fb&dag=c%26d&limit=1&q=%C3%A4")
    assert answer.json() == {"path": "/v1/admin/jobs?dag=a%2Fb&dag=c%26d&limit=1&q=%C3%A4"}
    assert viewer.get(f"{API}/jobs/a%20b").json() == {"path": "/v1/admin/jobs/a%20b"}


@pytest.mark.parametrize(
    "path",
    [
        "/edge-relay/v1/admin/../../metrics",
        "/edge-relay/v1/admin/%2e%2e/%2e%2e/metrics",
        "/edge-relay/v1/admin/..%2f..%2fmetrics",
        "/edge-relay/v1/admin/..%5cmetrics",
        "/edge-relay/v1/admin//metrics",
        "/edge-relay/v1/admin/workers/",
        "/edge-relay/v1/admin/a%00b",
        "/edge-relay/v1/admin/a%0d%0aHost:%20x",
        "/edge-relay/v1/admin/sign-in",
        "/edge-relay/v1/admin/sign-in/oidc",
        "/edge-relay/ui/../v1/admin/session",
        "/edge-relay/ui/%2e%2e/metrics",
        "/edge-relay/metrics",
        "/edge-relay/v1/poll",
        "/edge-relay/healthz",
    ],
)
def test_no_path_leads_out(airflow_with_page: PageAirflow, op: httpx.Client, relay: FakeOperators, path: str) -> None:
    """Sent byte for byte: a client would make the path normal first."""
    address = urlsplit(airflow_with_page.url)
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\nCookie: _token={op.cookies['_token']}"
    )
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 404 " in answer.partition(b"\r\n")[0]
    assert [each.path for each in relay.seen if each.path != "/v1/admin/session"] == []


def test_a_large_body_is_refused_here(op: httpx.Client, relay: FakeOperators) -> None:
    answer = op.post(
        f"{API}/worker-actions", content=b" " * (1 << 20) + b"1", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert relay.calls("/v1/admin/worker-actions") == []


def test_a_body_must_be_json(op: httpx.Client, relay: FakeOperators) -> None:
    answer = op.post(f"{API}/worker-actions", content=b"a=1", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert relay.calls("/v1/admin/worker-actions") == []


def test_a_large_answer_is_refused(viewer: httpx.Client, relay: FakeOperators) -> None:
    relay.large = 8 << 20
    assert len(viewer.get(f"{API}/large").content) == 8 << 20
    relay.large += 1
    answer = viewer.get(f"{API}/large")
    assert (answer.status_code, answer.json()["code"]) == (503, "relay_unavailable")


def test_a_link_from_airflow_leads_to_the_jobs(viewer: httpx.Client) -> None:
    task = {"dag": "a b", "run": "manual__1+2", "task": "t", "map_index": "{MAP_INDEX}"}
    moved = viewer.get("/edge-relay/open", params=task)
    assert moved.headers["location"] == "ui/#/jobs/7"
    moved = viewer.get("/edge-relay/open", params={**task, "task": "of another executor"})
    assert moved.headers["location"].startswith("ui/#/jobs?dag_id=a%20b&run_id=manual__1%2B2&text=of%20another")
    assert viewer.get("/edge-relay/open", params={"dag": "d"}).headers["location"] == "ui/#/jobs?dag_id=d"
