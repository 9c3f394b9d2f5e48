"""axe finds nothing serious in any view, light or dark. `make screenshots` writes pictures of the same views."""

from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH  # type: ignore[import-untyped]  # it has no types
from playwright.async_api import Browser, Page, expect

from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.model import JobState
from support.dashboard.browser import Dashboard, Served, opened
from support.dashboard.fleet import Fleet
from support.dashboard.pictures import picture

AXE = Path(AXE_FILE_PATH).read_text()
SERIOUS = """async (rules) => (await axe.run(rules ? { runOnly: rules } : {})).violations
  .filter((found) => ["serious", "critical"].includes(found.impact))
  .map((found) => `${found.id}: ${found.nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`)}`)"""
VIEWS = ["overview", "workers", "worker", "sites", "queues", "jobs", "job", "dead", "tokens", "audit"]
DARK_IMAGES = {"overview", "workers"}
PHONE_IMAGES = ("overview", "workers")


async def show(dashboard: Dashboard, view: str) -> None:
    """Open a view; `worker` and `job` are of one that has something to show."""
    if view == "worker":
        fleet = dashboard.api.fleet
        name = next(row.worker for row in fleet.jobs.values() if row.worker)
        change = {"before": {"order": None}, "after": {"order": "paused"}}
        fleet.record("worker-pause", TargetKind.WORKER, str(name), reason="firmware update", **change)
        view = f"workers/{name}"
    if view == "job":
        view = "jobs/" + next(
            row.job for row in dashboard.api.fleet.jobs.values() if row.state is JobState.WAITING and not row.parked
        )
    await dashboard.open(view)


async def check(page: Page, *rules: str) -> None:
    """Nothing serious or critical; by all rules, or by those that are named."""
    if not await page.evaluate("Boolean(window.axe)"):
        await page.evaluate(AXE)
    found = await page.evaluate(SERIOUS, list(rules) or None)
    assert not found, f"{page.url}\n" + "\n".join(found)


@pytest.mark.timeout(180)
async def test_every_view(browser: Browser, served: Served) -> None:
    async with opened(browser, served) as dashboard:
        for view in VIEWS:
            await show(dashboard, view)
            await check(dashboard.page)
            await picture(dashboard.page, view)


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_every_view_in_the_dark(browser: Browser, served: Served) -> None:
    """Only colours differ."""
    async with opened(browser, served, dark=True) as dashboard:
        for view in VIEWS:
            await show(dashboard, view)
            await check(dashboard.page, "color-contrast")
            if view in DARK_IMAGES:
                await picture(dashboard.page, f"{view}-dark")


@pytest.mark.soak
async def test_cards_on_a_phone(browser: Browser, served: Served) -> None:
    async with opened(browser, served, phone=True) as dashboard:
        for view in PHONE_IMAGES:
            await show(dashboard, view)
            await check(dashboard.page)
            await picture(dashboard.page, f"{view}-phone")


async def test_signing_in(browser: Browser, served: Served) -> None:
    served.api.oidc = "Acme Identity"
    async with opened(browser, served, token=None) as dashboard:
        await dashboard.page.goto(served.url)
        await expect(dashboard.page.get_by_role("link", name="Sign in with Acme Identity")).to_be_visible()
        await check(dashboard.page)
        await picture(dashboard.page, "sign-in")


async def test_an_empty_installation(browser: Browser, served: Served) -> None:
    served.api.fleet = Fleet()
    async with opened(browser, served) as dashboard:
        await dashboard.open()
        await check(dashboard.page)
        await picture(dashboard.page, "first-steps")


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["light", "dark"])
async def test_dialogs(browser: Browser, served: Served, dark: bool) -> None:
    rules = ("color-contrast",) if dark else ()
    async with opened(browser, served, dark=dark) as dashboard:
        page = dashboard.page
        await dashboard.open("workers?sel=edge-0001%2Cedge-0003%2Cedge-0006")
        await page.get_by_role("button", name="Drain", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="8 hours").click()
        await dialog.get_by_label("Reason").fill("the line stands still for maintenance")
        await expect(dialog.locator(".preview")).to_contain_text("2 workers will change")
        await expect(dialog.locator(".preview")).to_have_attribute("aria-busy", "false")
        await check(page, *rules)
        if not dark:
            await picture(page, "action")
        await dialog.get_by_role("button", name="Drain 2 workers").click()
        await expect(dialog.get_by_role("table", name="What failed")).to_be_visible()
        await check(page, *rules)
        if not dark:
            await picture(page, "outcome")
        await dashboard.open("tokens?create=access")
        await check(page, *rules)


async def test_an_outage(browser: Browser, served: Served) -> None:
    async with opened(browser, served) as dashboard:
        await dashboard.open("queues")
        dashboard.api.broker_lost = True
        await expect(dashboard.page.locator(".banner")).to_be_visible()
        await check(dashboard.page)
        await picture(dashboard.page, "outage")
