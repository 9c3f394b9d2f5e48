"""Times around a change of the clocks: words count real time, instants name the right hour, and an end is when it says.

In Paris the clocks went from 03:00 back to 02:00 on 25 October 2026, and from 02:00 to 03:00 on 29 March 2026.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from support.dashboard.browser import Dashboard, Served, opened

PARIS = "Europe/Paris"


@asynccontextmanager
async def at(browser: Browser, served: Served, instant: str, zone: str = PARIS) -> AsyncIterator[Dashboard]:
    """A page in this time zone, at this moment, for the relay as well."""
    served.api.date = datetime.fromisoformat(instant)
    async with opened(browser, served, zone=zone) as dashboard:
        await dashboard.page.clock.set_fixed_time(served.api.date)
        yield dashboard


async def test_an_hour_that_comes_twice(browser: Browser, served: Served) -> None:
    """02:30 in summer time and 02:30 in winter time are an hour apart, and both titles say which one is meant."""
    summer, winter = "2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00"
    fleet = served.api.fleet
    fleet.change_worker("edge-0001", last_poll_at=datetime.fromisoformat(summer))
    fleet.change_worker("edge-0003", last_poll_at=datetime.fromisoformat(winter))
    async with at(browser, served, "2026-10-25T02:00:00+00:00") as dashboard:
        await dashboard.open("workers?text=edge-000")
        for worker, words, title in (
            ("edge-0001", "1 hour ago", "2026-10-25 02:30:00 +02:00 (2026-10-25T00:30:00.000Z)"),
            ("edge-0003", "30 minutes ago", "2026-10-25 02:30:00 +01:00 (2026-10-25T01:30:00.000Z)"),
        ):
            shown = dashboard.page.get_by_role("row", name=worker).locator("[data-label='Last contact'] time")
            await expect(shown).to_have_text(words)
            await expect(shown).to_have_attribute("title", title)


async def test_a_day_of_23_hours(browser: Browser, served: Served) -> None:
    """Words count hours that passed, not what a clock on the wall shows."""
    served.api.fleet.change_worker("edge-0001", last_poll_at=datetime.fromisoformat("2026-03-28T12:00:00+00:00"))
    async with at(browser, served, "2026-03-29T11:00:00+00:00") as dashboard:
        await dashboard.open("workers?text=edge-0001")
        shown = dashboard.page.locator("[data-label='Last contact'] time")
        await expect(shown).to_have_text("23 hours ago")
        await expect(shown).to_have_attribute("title", "2026-03-28 13:00:00 +01:00 (2026-03-28T12:00:00.000Z)")


@pytest.mark.parametrize(
    ("now", "hours", "typed"),
    [
        ("2026-10-24T22:00:00+00:00", 8, "2026-10-25T07:00"),
        ("2026-03-28T23:30:00+00:00", 8, "2026-03-29T09:30"),
        ("2026-10-24T10:00:00+00:00", 24, "2026-10-25T11:00"),
        # 02:30 in summer time, and 02:30 in winter time.
        ("2026-10-24T23:30:00+00:00", 1, "2026-10-25T02:30"),
        ("2026-10-25T00:30:00+00:00", 1, "2026-10-25T02:30"),
    ],
)
async def test_a_pause_ends_after_so_many_hours(
    browser: Browser, served: Served, now: str, hours: int, typed: str
) -> None:
    button = {1: "1 hour", 8: "8 hours", 24: "1 day"}[hours]
    until = datetime.fromisoformat(now) + timedelta(hours=hours)
    async with at(browser, served, now) as dashboard:
        page = dashboard.page
        await dashboard.open("workers/edge-0001")
        await page.get_by_role("button", name="Pause", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name=button).click()
        await expect(dialog.get_by_label("Until")).to_have_value(typed)
        await dialog.get_by_label("Reason").fill("firmware")
        await dialog.get_by_role("button", name="Pause 1 worker").click()
        await expect(dialog.get_by_role("button", name="Done")).to_be_visible()
        sent = dashboard.api.requests[-1][2]["action"]["until"]
        assert datetime.fromisoformat(sent) == until


async def test_a_time_that_does_not_exist_is_the_one_after_the_gap(browser: Browser, served: Served) -> None:
    """Nobody in Paris saw 02:30 that night; the dialog says what it takes the text for."""
    async with at(browser, served, "2026-03-28T20:00:00+00:00") as dashboard:
        page = dashboard.page
        await dashboard.open("workers/edge-0001")
        await page.get_by_role("button", name="Pause", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Until").fill("2026-03-29T02:30")
        await expect(dialog.get_by_text("in 5 hours: 2026-03-29 03:30:00 +02:00")).to_be_visible()


async def test_a_zone_with_a_quarter_of_an_hour(browser: Browser, served: Served) -> None:
    served.api.fleet.change_worker("edge-0001", last_poll_at=datetime.fromisoformat("2026-06-01T00:00:00+00:00"))
    async with at(browser, served, "2026-06-01T00:05:00+00:00", "Asia/Kathmandu") as dashboard:
        await dashboard.open("workers?text=edge-0001")
        shown = dashboard.page.locator("[data-label='Last contact'] time")
        await expect(shown).to_have_attribute("title", "2026-06-01 05:45:00 +05:45 (2026-06-01T00:00:00.000Z)")
