"""What is shown stays current: with a stream of changes, without one, and through outages."""

import asyncio
import re
import time

import pytest
from playwright.async_api import Browser, expect

from edge_schemas.admin.rows import WorkerRow
from edge_schemas.wire.workers import WorkerState
from support.dashboard.browser import Dashboard, Served, opened
from support.dashboard.fleet import ago, small_fleet

COUNT_RENDERS = """() => {
  window.renders = 0;
  const rowOf = ({ target }) => (target.closest ? target : target.parentElement)?.closest("tr");
  new MutationObserver((records) => {
    window.renders += new Set(records.map(rowOf).filter(Boolean)).size;
  }).observe(document.querySelector("tbody"), {
    subtree: true, childList: true, characterData: true, attributes: true,
  });
}"""


async def test_a_change_is_shown_without_a_reload(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    row = dashboard.page.locator("tr", has_text="edge-0001")
    await expect(dashboard.page.get_by_text("Live", exact=True)).to_be_visible()
    dashboard.api.fleet.change_worker("edge-0001", state=WorkerState.OFFLINE)
    dashboard.api.changed("workers")
    began = time.monotonic()
    await expect(row.locator(".state")).to_have_text("offline")
    assert time.monotonic() - began < 4


async def test_without_a_stream_the_page_asks_every_two_seconds(browser: Browser, served: Served) -> None:
    served.api.streams = False
    async with opened(browser, served) as dashboard:
        await dashboard.open("workers")
        await expect(dashboard.page.get_by_text("Live, every 2 s")).to_be_visible()
        dashboard.api.fleet.change_worker("edge-0001", state=WorkerState.OFFLINE)
        row = dashboard.page.locator("tr", has_text="edge-0001")
        await expect(row.locator(".state")).to_have_text("offline")


async def test_a_restart_of_the_relay(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    await page.get_by_label("Select edge-0003").check()
    await dashboard.served.stop()
    banner = page.get_by_role("alert").filter(has_text="The relay does not answer")
    await expect(banner).to_contain_text("The page continues by itself")
    await expect(page.get_by_text(re.compile("^Stale since"))).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(40)
    dashboard.api.fleet.change_worker("edge-0001", state=WorkerState.OFFLINE)
    await dashboard.served.start()
    await expect(banner).to_have_count(0)
    await expect(page.locator("tr", has_text="edge-0001").locator(".state")).to_have_text("offline")
    await expect(page.get_by_label("Select edge-0003")).to_be_checked()
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def test_an_outage_of_the_broker(dashboard: Dashboard) -> None:
    await dashboard.open("queues")
    page = dashboard.page
    dashboard.api.broker_lost = True
    banner = page.get_by_role("alert").filter(has_text="can't reach the message broker")
    await expect(banner).to_contain_text(re.compile(r"from \d\d:\d\d:\d\d"))
    await expect(page.get_by_role("row", name=re.compile("Select vision"))).to_be_visible()
    dashboard.api.broker_lost = False
    await expect(banner).to_have_count(0)


async def test_a_relay_that_knows_only_old_things(dashboard: Dashboard) -> None:
    """It answers from its memory while it can't reach the broker."""
    await dashboard.open("queues")
    dashboard.api.knows_since = ago(40)
    banner = dashboard.page.get_by_role("alert").filter(has_text="what it knows is old")
    await expect(banner).to_be_visible()
    await expect(banner).to_contain_text(re.compile(r"[3-6]\d seconds ago"))
    dashboard.api.knows_since = None
    await expect(banner).to_have_count(0)


async def test_an_action_during_an_outage_confirms_nothing(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page = dashboard.page
    await page.get_by_role("button", name="Pause", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("test")
    await expect(dialog.locator(".preview")).to_contain_text("will change")
    dashboard.api.broker_lost = True
    await dialog.get_by_role("button", name="Pause 1 worker").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Nothing is confirmed")
    assert dashboard.api.fleet.workers["edge-0001"].state is WorkerState.ONLINE
    dashboard.api.broker_lost = False
    await dialog.get_by_role("button", name="Pause 1 worker").click()
    await expect(dialog).to_contain_text("1 worker paused")


@pytest.mark.soak
async def test_a_page_that_is_opened_while_the_relay_is_down(browser: Browser, served: Served) -> None:
    async with opened(browser, served) as dashboard:
        await dashboard.page.goto(served.url)
        await dashboard.ready()
        dashboard.api.broker_lost = True
        await dashboard.page.reload()
        await expect(dashboard.page.get_by_role("heading", name="The relay does not answer")).to_be_visible()
        dashboard.api.broker_lost = False
        await expect(dashboard.page.get_by_role("heading", name="Overview")).to_be_visible()


async def test_only_rows_that_changed_are_rendered(browser: Browser, served: Served) -> None:
    """A thousand workers, of which one changes: the other rows are not touched."""
    served.api.fleet = small_fleet(1000)
    old: dict[str, WorkerRow] = served.api.fleet.workers
    for name in old:  # times that change their words rarely
        served.api.fleet.change_worker(name, last_poll_at=ago(90_000))
    async with opened(browser, served) as dashboard:
        page = dashboard.page
        began = time.monotonic()
        await dashboard.open("workers")
        loaded = time.monotonic() - began
        await expect(page.locator("tbody tr")).to_have_count(100)
        await page.evaluate(COUNT_RENDERS)
        dashboard.api.fleet.change_worker("edge-0007", state=WorkerState.ONLINE)
        dashboard.api.changed("workers")
        await expect(page.locator("tr", has_text="edge-0007").locator(".state")).to_have_text("online")
        assert await page.evaluate("window.renders") <= 3
        paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"1,000 workers: first paint {paint:.0f} ms, list shown after {loaded * 1000:.0f} ms")  # noqa: T201
    assert paint < 5000


@pytest.mark.soak
async def test_a_hidden_page_asks_for_nothing(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    await page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    dashboard.api.reads.clear()
    other = asyncio.Event()
    asyncio.get_running_loop().call_later(4.5, other.set)
    await other.wait()
    assert dashboard.api.reads == []
