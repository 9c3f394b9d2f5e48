"""Signing in and out, and what each role may see and press."""

import re

import pytest
from playwright.async_api import Browser, expect

from edge_schemas.admin.access import AccessScope, SignedInBy
from edge_schemas.wire import routes
from support.dashboard.api import COOKIE
from support.dashboard.browser import Dashboard, Served, opened

ALL = {"Pause", "Resume", "Drain", "Stop", "Change queues", "Change slots", "Change labels"}
ADMIN = {"Rotate credential", "Revoke"}


async def test_with_a_token(browser: Browser, served: Served) -> None:
    async with opened(browser, served, token=None) as dashboard:
        page = dashboard.page
        await page.goto(f"{served.url}#/workers?state=offline")
        await page.get_by_label("Access token").fill("era_wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text(re.compile("not valid"))
        await page.get_by_label("Access token").fill("era_operator")
        await page.get_by_role("button", name="Sign in").click()
        await dashboard.ready()
        await expect(page.get_by_role("heading", name="Workers")).to_be_visible()
        await expect(page).to_have_url(re.compile("state=offline"))
        (cookie,) = await page.context.cookies()
        assert (cookie.get("name"), cookie.get("httpOnly")) == (COOKIE, True)
        assert "era_operator" not in await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


async def test_signing_out(dashboard: Dashboard) -> None:
    await dashboard.open("queues")
    await dashboard.page.get_by_role("button", name="Sign out").click()
    await expect(dashboard.page.get_by_label("Access token")).to_be_visible()
    assert await dashboard.page.context.cookies() == []


async def test_a_session_that_ends_leads_to_signing_in(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    await dashboard.page.context.clear_cookies()
    dashboard.api.changed("workers")
    await expect(dashboard.page.get_by_label("Access token")).to_be_visible()


async def test_with_an_identity_provider(browser: Browser, served: Served) -> None:
    served.api.oidc = "Acme Identity"
    async with opened(browser, served, token=None) as dashboard:
        await dashboard.page.goto(served.url)
        link = dashboard.page.get_by_role("link", name="Sign in with Acme Identity")
        assert (await link.get_attribute("href") or "").endswith(f"{routes.ADMIN_OIDC_START}?after=%2Fui%2F")


async def test_airflows_users_neither_sign_in_nor_out(browser: Browser, served: Served) -> None:
    served.api.signed_in_by = SignedInBy.AIRFLOW
    async with opened(browser, served, token=None) as dashboard:
        await dashboard.open("workers")
        await expect(dashboard.page.get_by_text("anna operator")).to_be_visible()
        await expect(dashboard.page.get_by_role("button", name="Sign out")).to_have_count(0)
        served.api.airflow_signed_out = True
        served.api.changed("workers")
        link = dashboard.page.get_by_role("link", name="Sign in to Airflow")
        assert await link.get_attribute("href") == served.url.removesuffix("ui/")
        await expect(dashboard.page.get_by_label("Access token")).to_have_count(0)


@pytest.mark.parametrize(
    ("token", "buttons"), [("era_viewer", set()), ("era_operator", ALL), ("era_admin", ALL | ADMIN)]
)
async def test_each_role_sees_its_buttons(browser: Browser, served: Served, token: str, buttons: set[str]) -> None:
    async with opened(browser, served, token=token) as dashboard:
        await dashboard.open("workers/edge-0001")
        group = dashboard.page.get_by_role("group", name="Actions on edge-0001")
        assert set(await group.get_by_role("button").all_inner_texts()) == buttons
        await dashboard.open("workers")
        boxes = await dashboard.page.get_by_role("checkbox").count()
        assert (boxes > 0) is bool(buttons)
        await dashboard.open("tokens")
        creates = await dashboard.page.get_by_role("button", name="Create an access token").count()
        assert creates == (1 if token == "era_admin" else 0)


async def test_a_limited_person_is_told_so(browser: Browser, served: Served) -> None:
    served.api.scope = AccessScope(sites=("plant-lyon",))
    async with opened(browser, served) as dashboard:
        await dashboard.open()
        await expect(dashboard.page.get_by_title("limited to sites plant-lyon")).to_contain_text("admin, limited")
