"""axe finds nothing serious in any view, light or dark. `make screenshots` writes pictures of the same views."""

import os
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser, Page, expect

from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.model import JobState
from support.dashboard.browser import Dashboard, Served, opened
from support.dashboard.fleet import Fleet

IMAGES = Path(__file__).parents[3] / "docs/images/ui"
AXE = Path(AXE_FILE_PATH).read_text()
SERIOUS = "async () => (await axe.run()).violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => ({id: v.id, nodes: v.nodes.map((n) => n.html.slice(0, 200) + ' ' + n.failureSummary)}))"
VIEWS = ["overview", "workers", "worker", "sites", "queues", "jobs", "job", "dead", "tokens", "audit"]
DARK_IMAGES = {"overview", "workers"}
PHONE_IMAGES = {"overview", "workers"}
MOST_BYTES = 150_000


async def show(dashboard: Dashboard, view: str) -> None:
    """Open a view; `worker` and `job` are of one that has something to show."""
    if view == "worker":
        fleet = dashboard.api.fleet
        name = next(row.worker for row in fleet.jobs.values() if row.worker)
        fleet.record("worker-pause", TargetKind.WORKER, str(name), reason="firmware update", before={"order": None}, after={"order": "paused"})
        view = f"workers/{name}"
    if view == "job":
        view = "jobs/" + next(
            row.job for row in dashboard.api.fleet.jobs.values() if row.state is JobState.WAITING and not row.parked
        )
    await dashboard.open(view)


async def check(page: Page) -> None:
    """Nothing serious or critical."""
    if not await page.evaluate("Boolean(window.axe)"):
        await page.evaluate(AXE)
    assert await page.evaluate(SERIOUS) == []


async def picture(page: Page, name: str) -> None:
    """Write a picture for the documentation, if pictures are wanted."""
    if os.environ.get("SCREENSHOTS"):
        file = IMAGES / f"{name}.png"
        await page.screenshot(path=file, animations="disabled", caret="hide")
        assert file.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_every_view(browser: Browser, served: Served, dark: bool) -> None:  # noqa: FBT001
    async with opened(browser, served, dark=dark) as dashboard:
        for view in VIEWS:
            await show(dashboard, view)
            await check(dashboard.page)
            if not dark or view in DARK_IMAGES:
                await picture(dashboard.page, f"{view}-dark" if dark else view)


async def test_every_view_on_a_phone(browser: Browser, served: Served) -> None:
    async with opened(browser, served, phone=True) as dashboard:
        for view in VIEWS:
            await show(dashboard, view)
            await check(dashboard.page)
            if view in PHONE_IMAGES:
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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_dialogs(browser: Browser, served: Served, dark: bool) -> None:  # noqa: FBT001
    async with opened(browser, served, dark=dark) as dashboard:
        page = dashboard.page
        await dashboard.open("workers?sel=edge-0001%2Cedge-0003%2Cedge-0006")
        await page.get_by_role("button", name="Drain", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="8 hours").click()
        await dialog.get_by_label("Reason").fill("the line stands still for maintenance")
        await expect(dialog.locator(".preview")).to_contain_text("2 workers will change")
        await expect(dialog.locator(".preview")).to_have_attribute("aria-busy", "false")
        await check(page)
        if not dark:
            await picture(page, "action")
        await dialog.get_by_role("button", name="Drain: 2 workers").click()
        await expect(dialog.get_by_role("table", name="What failed")).to_be_visible()
        await check(page)
        if not dark:
            await picture(page, "outcome")
        await dashboard.open("tokens?create=access")
        await check(page)


async def test_an_outage(browser: Browser, served: Served) -> None:
    async with opened(browser, served) as dashboard:
        await dashboard.open("queues")
        dashboard.api.broker_lost = True
        await expect(dashboard.page.locator(".banner")).to_be_visible()
        await check(dashboard.page)
        await picture(dashboard.page, "outage")
