"""What the page says while its settings or the relay are wrong, and that it comes back without a restart."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from edge_bridge.page import relay_client, trust
from edge_bridge.page.app import build_page
from edge_bridge.page.callers import Caller, find_caller
from edge_bridge.page.settings import PageSettings, page_settings
from edge_bridge.settings import SettingsError
from edge_schemas.admin.access import Role
from support.airflow.page_airflow import Options
from support.network.certificates import make_certificates
from support.operators.recording_relay import TOKEN, FakeOperators, fake_operators

HTML = {"Accept": "text/html"}
SESSION = "/v1/admin/session"


@pytest.fixture
def relay() -> Iterator[FakeOperators]:
    """The relay."""
    with fake_operators() as fake:
        yield fake


@pytest.fixture
def good(relay: FakeOperators) -> PageSettings:
    """Settings that work."""
    return PageSettings((relay.url,), TOKEN, ssl.create_default_context())


@asynccontextmanager
async def _page(read: Callable[[], PageSettings], role: Role = Role.VIEWER) -> AsyncIterator[httpx.AsyncClient]:
    """The application alone, for a user of this role."""
    app = await asyncio.to_thread(build_page, read)
    app.dependency_overrides[find_caller] = lambda: Caller("ann", role)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow")
    async with app.router.lifespan_context(app), client:
        yield client


async def _says(page: httpx.AsyncClient, *words: str) -> None:
    """Both the page for a person and the problem for a script."""
    document = await page.get("/open?dag=d&run=r&task=t", headers=HTML)
    assert document.status_code == 503
    assert document.headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'self'")
    problem = await page.get(SESSION)
    assert (problem.status_code, problem.json()["code"]) == (503, "relay_unavailable")
    for word in words:
        assert word in problem.json()["detail"]
        assert word.replace("'", "&#x27;") in document.text
    assert TOKEN not in document.text + problem.text


async def test_a_missing_setting_is_named() -> None:
    def read() -> PageSettings:
        raise SettingsError("[edge_relay] operators_urls is empty: name the operators' listener of each relay")

    async with _page(read) as page:
        await _says(page, "[edge_relay] operators_urls is empty")


async def test_a_relay_that_is_down_is_named(good: PageSettings) -> None:
    async with _page(lambda: replace(good, urls=("http://127.0.0.1:1",))) as page:
        await _says(page, "http://127.0.0.1:1", "operators_urls")


async def test_a_certificate_that_is_not_trusted_is_named(good: PageSettings, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=made.server_context())
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with _page(lambda: replace(good, urls=(url,))) as page:
            await _says(page, "operators_ca_file")


async def test_a_token_that_the_relay_does_not_know_is_named(good: PageSettings) -> None:
    async with _page(lambda: replace(good, token="era_old")) as page:
        await _says(page, "operators.token", "edge-relay access-token create --name airflow --for-airflow")


@pytest.mark.parametrize("path", ["/v1/admin/workers", "/v1/admin/changes", "/open?dag=d&run=r&task=t"])
async def test_a_token_that_is_not_for_airflow_is_not_used_for_any_user(
    good: PageSettings, relay: FakeOperators, path: str
) -> None:
    relay.by = "token"
    async with _page(lambda: good) as page:
        assert (await page.get(path)).status_code == 503
        assert {each.path for each in relay.seen} == {SESSION}
        await _says(page, "was not made for Airflow")


async def test_a_new_token_is_used_without_a_restart(
    good: PageSettings, relay: FakeOperators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_client, "REREAD_S", -1.0)
    monkeypatch.setattr(trust, "FAILED_FOR_S", 0.0)
    current = [replace(good, token="era_old")]
    async with _page(lambda: current[0]) as page:
        assert (await page.get(SESSION)).status_code == 503
        current[0] = good
        assert (await page.get(SESSION)).json()["name"] == "ann"


async def test_many_who_wait_for_a_silent_relay_do_not_wait_one_after_the_other(
    good: PageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_client, "ANSWER_S", 0.5)
    arrived = []

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with _page(lambda: replace(good, urls=(url,))) as page:
            answers = await asyncio.gather(*(page.get("/v1/admin/workers") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {503}
    assert len(arrived) == 1


async def test_the_check_of_the_token_is_made_once_a_minute(good: PageSettings, relay: FakeOperators) -> None:
    async with _page(lambda: good) as page:
        for _ in range(3):
            assert (await page.get("/v1/admin/workers")).status_code == 200
    assert len(relay.calls(SESSION)) == 1


async def test_calls_under_way_are_few(good: PageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_client, "MAX_CALLS", 0)
    async with _page(lambda: good) as page:
        answer = await page.get(SESSION)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_a_change_is_not_repeated_at_another_relay(good: PageSettings, relay: FakeOperators) -> None:
    """The first relay may have made it. A read is repeated."""
    actions, workers = "/v1/admin/worker-actions", "/v1/admin/workers"
    with fake_operators() as second:
        relay.drops = {actions, workers}
        async with _page(lambda: replace(good, urls=(relay.url, second.url)), Role.OPERATOR) as page:
            refused = await page.post(actions, json={})
            assert (refused.status_code, refused.json()["code"]) == (503, "relay_unavailable")
            assert (len(relay.calls(actions)), len(second.calls(actions))) == (1, 0)
            assert (await page.get(workers)).status_code == 200
            assert len(second.calls(workers)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operators_token": "t"}, "operators_urls is empty"),
        ({"operators_urls": "relay:8444", "operators_token": "t"}, "must hold URLs"),
        ({"operators_urls": "http://u:secret@relay", "operators_token": "t"}, "no user, password"),
        ({"operators_urls": "http://relay"}, "operators.token"),
        (
            {"operators_urls": "https://relay", "operators_token": "t", "operators_ca_file": "/none"},
            "operators_ca_file",
        ),
    ],
)
def test_settings_are_checked(options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        page_settings(Options(**options))
    assert "secret@" not in str(caught.value)
