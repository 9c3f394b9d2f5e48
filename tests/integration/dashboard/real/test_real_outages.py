"""The page while a real relay or a real nats-server is away, and before a fleet of a thousand workers."""

import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from edge_broker.bucket import Bucket
from edge_broker.subjects import DESIRED_BUCKET
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from support.dashboard.real_centre import RealCentre, page_of, real_centre
from support.nats.server import eventually

WORKERS = ("oslo-1", "oslo-2", "oslo-3")
MANY = 1000
WATCH_STATES = """() => {
  window.states = new Set();
  const note = () => {
    for (const one of document.querySelectorAll("tbody .state")) window.states.add(one.textContent.trim());
  };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
  note();
}"""
"""Collects each state that the list has shown, and is lost by a reload."""


@pytest_asyncio.fixture(loop_scope="session")
async def centre(tmp_path: Path) -> AsyncIterator[RealCentre]:
    """With three workers that poll."""
    async with real_centre(tmp_path) as running, running.polling(WORKERS):
        yield running


def banner(page: Page) -> Locator:
    return page.get_by_role("alert").filter(has_text="The page continues by itself")


def with_state(page: Page, state: str) -> Locator:
    return page.locator("tbody .state").filter(has_text=re.compile(f"^{state}$"))


async def states_seen(page: Page) -> set[str]:
    """Since `WATCH_STATES`; fails if the page was loaded again."""
    return set(await page.evaluate("[...window.states]"))


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_the_relay_is_killed_and_started_again(browser: Browser, centre: RealCentre) -> None:
    async with page_of(browser, centre.url, await centre.token(), "workers") as page:
        await expect(with_state(page, "online")).to_have_count(len(WORKERS))
        await page.evaluate(WATCH_STATES)
        await page.get_by_label("Select oslo-2").check()
        began = time.monotonic()
        await centre.relay.kill()
        await expect(banner(page)).to_contain_text("The relay does not answer")
        shown_after = time.monotonic() - began
        await expect(banner(page)).to_contain_text(re.compile(r"from \d\d:\d\d:\d\d"))
        await expect(page.get_by_text(re.compile(r"^Stale since \d\d:\d\d:\d\d"))).to_be_visible()
        await expect(page.locator("tbody tr")).to_have_count(len(WORKERS))
        await centre.enroll("oslo-late")
        await centre.relay.start()
        began = time.monotonic()
        await expect(banner(page)).to_have_count(0)
        await expect(page.locator("tr", has_text="oslo-late").locator(".state")).to_have_text("never seen")
        print(f"banner after {shown_after:.1f} s, right again {time.monotonic() - began:.1f} s after ready")  # noqa: T201
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await expect(page.get_by_label("Select oslo-2")).to_be_checked()
        await expect(with_state(page, "online")).to_have_count(len(WORKERS))
        assert "offline" not in await states_seen(page)
    assert shown_after < 8


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_the_broker_is_frozen_and_then_killed(browser: Browser, centre: RealCentre) -> None:
    """Longer than workers may be silent; a relay that can't hear them calls none of them offline."""
    async with page_of(browser, centre.url, await centre.token(), "workers") as page:
        await expect(with_state(page, "online")).to_have_count(len(WORKERS))
        await page.evaluate(WATCH_STATES)
        began = time.monotonic()
        os.kill(centre.nats.pid, signal.SIGSTOP)
        try:
            await expect(banner(page)).to_contain_text("what it knows is old")
            shown_after = time.monotonic() - began
            assert shown_after < 5, "long before the connection counts as lost"
            await expect(banner(page)).to_contain_text(re.compile("[45]\\d seconds ago"), timeout=60_000)
            await expect(with_state(page, "online")).to_have_count(len(WORKERS))
        finally:
            os.kill(centre.nats.pid, signal.SIGCONT)
        began = time.monotonic()
        await expect(banner(page)).to_have_count(0)
        thawed = time.monotonic() - began
        await centre.nats.stop(kill=True)
        await expect(banner(page)).to_contain_text("message broker")
        await centre.nats.start()
        began = time.monotonic()
        await expect(banner(page)).to_have_count(0)
        restarted = time.monotonic() - began
        print(f"frozen: banner after {shown_after:.1f} s; gone {thawed:.1f} s after, {restarted:.1f} s when killed")  # noqa: T201
        await centre.enroll("oslo-late")
        await expect(page.locator("tr", has_text="oslo-late").locator(".state")).to_have_text("never seen")
        await expect(with_state(page, "online")).to_have_count(len(WORKERS))
        assert "offline" not in await states_seen(page)


async def _stored(centre: RealCentre, worker: str) -> bytes:
    async with centre.admin() as broker:
        return (await Bucket(broker, DESIRED_BUCKET).get(f"worker.{worker}")).value or b""


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "killed"])
async def test_an_action_while_the_broker_is_away(browser: Browser, centre: RealCentre, frozen: bool) -> None:
    """Nothing is confirmed that is not stored, and what may have been stored may be sent again."""
    async with page_of(browser, centre.url, await centre.token(), "workers/oslo-1") as page:
        await page.get_by_role("button", name="Pause", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("a new belt")
        submit = dialog.get_by_role("button", name="Pause 1 worker")
        await expect(submit).to_be_enabled()
        if frozen:
            os.kill(centre.nats.pid, signal.SIGSTOP)
        else:
            await centre.nats.stop(kill=True)
        await submit.click()
        said = dialog.get_by_role("alert")
        await expect(said).to_contain_text("Nothing is confirmed")
        await expect(said).to_contain_text("may be repeated")
        print(await said.inner_text())  # noqa: T201
        if frozen:
            os.kill(centre.nats.pid, signal.SIGCONT)
        else:
            await centre.nats.start()

        async def reaches_broker() -> bool:
            return (await page.request.get(f"{centre.relay.operators_url}{routes.ADMIN_AUDIT}")).ok

        await eventually(reaches_broker, timeout_s=30, what="the relay is connected again")
        await submit.click()
        await expect(dialog.get_by_role("button", name="Done")).to_be_visible()
        outcome = await dialog.locator(".result").inner_text()
        print(outcome)  # noqa: T201
        assert re.search(r"1 worker paused|already as wanted", outcome)
        await dialog.get_by_role("button", name="Done").click()
        await expect(page.locator("header .state")).to_have_text("paused")
        orders = page.get_by_role("region", name="History").get_by_text("a new belt")
        await expect(orders.first).to_be_visible()
        assert b"a new belt" in await _stored(centre, "oslo-1")


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_a_dialog_that_is_opened_while_the_relay_is_away(browser: Browser, centre: RealCentre) -> None:
    """It can be used once the relay is back, without closing it."""
    async with page_of(browser, centre.url, await centre.token(), "workers/oslo-1") as page:
        await expect(page.locator("header .state")).to_have_text("online")
        await centre.relay.kill()
        await page.get_by_role("button", name="Pause", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill("a new belt")
        await expect(dialog.locator(".preview")).to_contain_text("did not answer")
        await centre.relay.start()
        await dialog.get_by_role("button", name="Pause 1 worker").click()
        await expect(dialog).to_contain_text("1 worker paused")


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_a_thousand_workers(browser: Browser, tmp_path: Path) -> None:
    """They are paused at once until a moment that comes, when each of them resumes by itself."""
    async with real_centre(tmp_path) as centre:
        await centre.enroll_crowd(MANY)
        async with page_of(browser, centre.url, await centre.token()) as page:
            workers = page.get_by_role("region", name=re.compile("^Workers"))
            await expect(workers).to_contain_text("1,000")
            began = time.monotonic()
            await page.reload()
            await expect(workers).to_contain_text("1,000")
            filled = time.monotonic() - began
            paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            print(f"first contentful paint {paint:.0f} ms, overview filled after {filled * 1000:.0f} ms")  # noqa: T201
            await page.goto(f"{centre.url}#/workers")
            await page.get_by_label("Select all rows of this page").check()
            await page.get_by_role("button", name="Select all 1,000 that match").click()
            bar = page.get_by_role("region", name="Selected rows")
            await bar.get_by_role("button", name="Pause", exact=True).click()
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Reason").fill("firmware")
            until = await page.evaluate(
                "() => { const at = new Date(Date.now() + 90_000 - new Date().getTimezoneOffset() * 60_000);"
                " return at.toISOString().slice(0, 16); }"
            )
            await dialog.get_by_label("Until").fill(until)
            submit = dialog.get_by_role("button", name="Pause 1,000 workers")
            await expect(submit).to_be_enabled()
            began = time.monotonic()
            await submit.click()
            await expect(dialog).to_contain_text("1,000 workers paused")
            took = time.monotonic() - began
            await dialog.get_by_role("button", name="Done").click()
            await expect(with_state(page, "paused")).to_have_count(100)
            listed = time.monotonic() - began
            print(f"1,000 workers paused within {took:.1f} s, the list shows it after {listed:.1f} s")  # noqa: T201
            await expect(page.locator("tbody tr").first).to_contain_text("firmware")
            await page.goto(f"{centre.url}#/overview")
            await expect(page.get_by_role("link", name=re.compile("^paused"))).to_be_visible()
            await page.goto(f"{centre.url}#/workers?state=paused")
            await expect(page.get_by_text("No worker matches")).to_be_visible(timeout=120_000)
            assert time.time() >= time.mktime(time.strptime(until, "%Y-%m-%dT%H:%M"))
            await page.goto(f"{centre.url}#/workers?state=online")
            await expect(with_state(page, "online")).to_have_count(100)
    assert took < 20


async def test_each_person_sees_their_part(browser: Browser, tmp_path: Path) -> None:
    async with real_centre(tmp_path) as centre:
        await centre.enroll("oslo-1", site="plant-oslo")
        await centre.enroll("lyon-1", site="plant-lyon")
        limited = await centre.token("ben", role=Role.OPERATOR, sites=("plant-oslo",))
        async with page_of(browser, centre.url, limited, "workers") as page:
            await expect(page.locator("tbody tr")).to_have_count(1)
            await expect(page.locator("tbody tr")).to_contain_text("oslo-1")
            await expect(page.get_by_title("limited to sites plant-oslo")).to_contain_text("operator, limited")
            await page.goto(f"{centre.url}#/sites")
            await expect(page.locator("tbody tr")).to_have_count(1)
            await page.goto(f"{centre.url}#/overview")
            await expect(page.get_by_role("link", name=re.compile("^never seen"))).to_contain_text("1")
            await page.goto(f"{centre.url}#/workers/lyon-1")
            await expect(page.get_by_role("heading", name="The worker lyon-1 can't be shown")).to_be_visible()
            await expect(page.locator("main")).to_contain_text("limited to other sites")
            await page.goto(f"{centre.url}#/workers/oslo-1")
            group = page.get_by_role("group", name="Actions on oslo-1")
            await expect(group.get_by_role("button", name="Pause", exact=True)).to_be_visible()
            await expect(group.get_by_role("button", name="Revoke")).to_have_count(0)
            for view in ("queues", "jobs", "dead", "tokens", "audit"):
                await page.goto(f"{centre.url}#/{view}")
                await expect(page.locator("main h1")).to_be_visible()
                await expect(page.locator(".skeleton")).to_have_count(0)
                await expect(page.locator("main")).not_to_contain_text(re.compile("lyon|[Tt]ry again"))
        async with page_of(browser, centre.url, await centre.token("eve", role=Role.VIEWER), "workers") as page:
            await expect(page.locator("tbody tr")).to_have_count(2)
            await expect(page.get_by_role("checkbox")).to_have_count(0)
            await page.goto(f"{centre.url}#/workers/lyon-1")
            await expect(page.get_by_role("heading", name="lyon-1")).to_be_visible()
            await expect(page.get_by_role("group", name="Actions on lyon-1")).to_have_count(0)
