"""Who may read and change what through the page, with Airflow's simple auth manager."""

import httpx
import pytest

from support.airflow.page_airflow import USERS, PageAirflow
from support.operators.recording_relay import TOKEN, FakeOperators

ACTIONS = "/edge-relay/v1/admin/worker-actions"
SESSION = "/edge-relay/v1/admin/session"
ROLES = {"viewer": "viewer", "user": "viewer", "op": "operator", "admin": "admin"}
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("user", USERS)
def test_the_relay_hears_who_calls_and_what_they_may_do(
    airflow_with_page: PageAirflow, relay: FakeOperators, user: str
) -> None:
    with airflow_with_page.browser(user) as client:
        session = client.get(SESSION).json()
    assert (session["name"], session["role"], session["by"]) == (user, ROLES[user], "airflow")
    assert session["airflow_url"] == airflow_with_page.url
    assert session["csrf"] == "airflow"
    assert relay.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(("user", "status"), [("viewer", 403), ("user", 403), ("op", 200), ("admin", 200)])
def test_readers_change_nothing(airflow_with_page: PageAirflow, relay: FakeOperators, user: str, status: int) -> None:
    with airflow_with_page.browser(user) as client:
        answer = client.post(ACTIONS, json={"do": "pause"})
    assert answer.status_code == status
    assert len(relay.calls("/v1/admin/worker-actions")) == (status == 200)
    if status == 403:
        assert answer.json()["code"] == "forbidden"
        assert "edit pools" in answer.json()["detail"]


def test_nobody_is_asked_to_sign_in(stranger: httpx.Client, relay: FakeOperators) -> None:
    api = stranger.get(SESSION)
    assert (api.status_code, api.json()["code"]) == (401, "unauthenticated")
    assert stranger.post(ACTIONS, json={}).status_code == 401
    page = stranger.get("/edge-relay/ui/", headers={"Accept": "text/html"})
    assert page.status_code == 307
    assert page.headers["location"].startswith("/auth/login?next=http")
    assert page.headers["location"].endswith("%2Fedge-relay%2Fui%2F")
    assert stranger.get("/edge-relay/airflow-frame.js").status_code == 401
    assert relay.seen == []


def test_a_bearer_token_of_airflow_serves_as_well(
    airflow_with_page: PageAirflow, stranger: httpx.Client, relay: FakeOperators
) -> None:
    token = stranger.post("/auth/token", json={"username": "op", "password": "op"}).json()["access_token"]
    with httpx.Client(base_url=airflow_with_page.url, headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get(SESSION).json()["role"] == "operator"
        assert client.post(ACTIONS, json={}).status_code == 403
        assert client.post(ACTIONS, json={}, headers={"Edge-Csrf": "x"}).status_code == 200
    assert relay.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_browser_cannot_say_whom_it_acts_for(viewer: httpx.Client, relay: FakeOperators) -> None:
    forged = {
        "Edge-Acting-For": "root",
        "Edge-Acting-As": "admin",
        "Authorization": "Basic cm9vdDo=",
        "X-Forwarded-For": "192.0.2.1",
    }
    session = viewer.get(SESSION, headers=forged).json()
    assert (session["name"], session["role"]) == ("viewer", "viewer")
    seen = relay.seen[-1].headers
    assert (seen["edge-acting-for"], seen["edge-acting-as"]) == ("viewer", "viewer")
    assert "cookie" not in seen
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=["another site", "a neighbour", "an old browser", "an opaque origin"],
)
def test_another_site_cannot_make_a_user_change_anything(
    op: httpx.Client, relay: FakeOperators, headers: dict[str, str]
) -> None:
    for name in ("Origin", "Sec-Fetch-Site"):
        del op.headers[name]
    answer = op.post(ACTIONS, json={"do": "pause"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert relay.seen == []


def test_a_form_of_another_site_lacks_the_header(op: httpx.Client, relay: FakeOperators) -> None:
    del op.headers["Edge-Csrf"]
    answer = op.post(ACTIONS, content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 403
    assert "Edge-Csrf" in answer.json()["detail"]
    assert relay.seen == []


def test_airflows_ui_lists_the_views(op: httpx.Client) -> None:
    plugins = {each["name"]: each for each in op.get("/api/v2/plugins").json()["plugins"]}
    plugin = plugins["edge_relay"]
    assert [each["url_prefix"] for each in plugin["fastapi_apps"]] == ["/edge-relay"]
    assert {each["destination"] for each in plugin["external_views"]} == {"nav", "dag", "task", "task_instance"}
    assert len({each["url_route"] for each in plugin["external_views"]}) == 4
