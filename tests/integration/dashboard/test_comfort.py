"""Keyboard, dark mode, a phone's width."""

import re

from playwright.async_api import Browser, expect

from edge_schemas.life.model import JobState
from support.dashboard.browser import Dashboard, Served, opened

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
TOO_WIDE = "[document.documentElement, document.querySelector('main')].map((e) => e.scrollWidth - e.clientWidth)"
LIGHT, DARK = "rgb(245, 246, 248)", "rgb(16, 21, 28)"


async def test_slash_focuses_the_filter(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    await dashboard.page.keyboard.press("/")
    await expect(dashboard.page.get_by_label("Find")).to_be_focused()
    await dashboard.page.keyboard.type("a/b")
    await expect(dashboard.page.get_by_label("Find")).to_have_value("a/b")


async def test_a_dialog_keeps_the_focus_inside(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page = dashboard.page
    await page.get_by_role("button", name="Pause", exact=True).press("Enter")
    await expect(page.get_by_label("Reason")).to_be_focused()
    for _ in range(14):
        await page.keyboard.press("Tab")
        assert await page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )


async def test_the_focus_is_visible(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    await page.get_by_label("Find").focus()
    await page.keyboard.press("Tab")
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


async def test_an_action_by_keyboard_alone(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page = dashboard.page
    await page.get_by_role("button", name="Pause", exact=True).press("Enter")
    await page.keyboard.type("by hand")
    confirm = page.get_by_role("button", name="Pause 1 worker")
    await expect(confirm).to_be_enabled()
    await confirm.press("Enter")
    await expect(page.get_by_role("button", name="Done")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_the_theme_is_the_systems_until_one_is_chosen(browser: Browser, served: Served) -> None:
    async with opened(browser, served, dark=True) as dashboard:
        page = dashboard.page
        await dashboard.open()
        assert await page.evaluate(BACKGROUND) == DARK
        await page.get_by_role("button", name="Theme: auto").click()
        assert await page.evaluate(BACKGROUND) == LIGHT
        await page.reload()
        await dashboard.ready()
        assert await page.evaluate(BACKGROUND) == LIGHT
        await page.get_by_role("button", name="Theme: light").click()
        assert await page.evaluate(BACKGROUND) == DARK


async def test_a_phone_scrolls_in_one_direction(browser: Browser, served: Served) -> None:
    job = next(row.job for row in served.api.fleet.jobs.values() if row.state is JobState.WAITING)
    views = ["overview", "workers", "workers/edge-0005", "sites", "queues", "jobs", f"jobs/{job}", "dead", "tokens"]
    async with opened(browser, served, phone=True) as dashboard:
        for view in views:
            await dashboard.open(view)
            assert await dashboard.page.evaluate(TOO_WIDE) == [0, 0], view


async def test_nothing_jumps_while_a_view_loads(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    await page.evaluate(
        "window.shifts = 0;"
        "new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.shifts += e.value; }))"
        ".observe({type: 'layout-shift', buffered: false})"
    )
    dashboard.api.changed("workers", "sites", "queues", "jobs")
    await page.get_by_label("Find").fill("edge-001")
    await expect(page).to_have_url(re.compile("text=edge-001"))
    await expect(page.locator("tbody tr")).to_have_count(10)
    assert await page.evaluate("window.shifts") < 0.1
