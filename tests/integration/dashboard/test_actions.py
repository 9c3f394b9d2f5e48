"""Every action: who is asked, what is sent, what it changes, and what is said afterwards."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Page, expect

from edge_schemas.admin.rows import WorkerRow
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.workers import Availability, WorkerState
from support.dashboard.answers import ENROLL
from support.dashboard.browser import Dashboard
from support.dashboard.fleet import small_fleet


@dataclass(frozen=True)
class Case:
    """An action on one worker.

    Attributes:
        fill: Label of a field to its text.
        check: Labels of boxes or choices to set.
        sent: The action in the request.
        row: Fields of the worker's row afterwards.
    """

    button: str
    worker: str
    sent: dict[str, Any]
    row: dict[str, Any] = field(default_factory=dict)
    fill: dict[str, str] = field(default_factory=dict)
    check: tuple[str, ...] = ()


CASES = [
    Case("Pause", "edge-0001", {"do": "pause"}, {"state": WorkerState.PAUSED}),
    Case("Resume", "edge-0000", {"do": "resume"}, {"state": WorkerState.ONLINE, "order": None}),
    Case("Drain", "edge-0001", {"do": "drain"}, {"state": WorkerState.DRAINING}),
    Case("Stop", "edge-0001", {"do": "stop"}, {"state": WorkerState.DRAINING}),
    Case(
        "Change queues",
        "edge-0001",
        {"do": "set-queues", "add": ["reports", "night"], "remove": ["quality"], "as_enrolled": False},
        {"queues": ("vision", "reports", "night")},
        fill={"Add": "reports, night", "Remove": "quality"},
    ),
    Case("Change slots", "edge-0001", {"do": "set-slots", "slots": 7}, {"slots": 7}, fill={"Slots": "7"}),
    Case("Change slots", "edge-0001", {"do": "set-slots", "slots": None}, {"slots": 4}),
    Case(
        "Change labels",
        "edge-0001",
        {"do": "set-labels", "set": {"line": "9", "hall": "b=1"}, "remove": ["vendor"]},
        {"labels": {"line": "9", "hall": "b=1"}},
        fill={"Set": "line=9, hall=b=1", "Remove": "vendor"},
    ),
    Case(
        "Resolve conflict",
        "edge-0005",
        {"do": "resolve", "keep": "newer"},
        {"state": WorkerState.ONLINE, "conflict": ()},
        check=("the newer agent",),
    ),
    Case("Rotate credential", "edge-0001", {"do": "rotate"}, {"settings_version": 4}),
    Case("Revoke", "edge-0001", {"do": "revoke"}, {"state": WorkerState.REVOKED}),
]


async def act(page: Page, button: str, reason: str = "because of a test") -> None:
    """Fill in the reason, wait for the preview, confirm, and wait for the outcome."""
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(reason)
    await expect(dialog.locator(".preview")).to_contain_text("will change")
    await dialog.get_by_role("button", name=re.compile(f"^{button}")).click()
    await expect(dialog.get_by_role("button", name="Done")).to_be_visible()


async def test_each_action_on_a_worker(dashboard: Dashboard) -> None:
    for case in CASES:
        fresh = small_fleet()
        dashboard.api.fleet.workers, dashboard.api.fleet.audit = fresh.workers, fresh.audit
        dashboard.api.requests.clear()
        await _act_on_a_worker(dashboard, case)


async def _act_on_a_worker(dashboard: Dashboard, case: Case) -> None:
    await dashboard.open(f"workers/{case.worker}")
    page, api = dashboard.page, dashboard.api
    await page.get_by_role("button", name=case.button, exact=True).click()
    dialog = page.get_by_role("dialog")
    for label, text in case.fill.items():
        await dialog.get_by_label(label, exact=True).fill(text)
    for label in case.check:
        await dialog.get_by_label(label).check()
    await act(page, case.button)
    method, path, body = api.requests[-1]
    assert (method, path) == ("POST", routes.ADMIN_WORKER_ACTIONS)
    expected = {"workers": [case.worker], "reason": "because of a test", "dry_run": False}
    assert body == expected | {"action": case.sent}
    row = api.fleet.workers[case.worker]
    assert {key: getattr(row, key) for key in case.row} == case.row
    assert all(sent["dry_run"] for _, _, sent in api.requests[:-1])
    await dialog.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("region", name="History")).to_contain_text("because of a test")


async def test_removing_a_revoked_worker(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0006")
    await dashboard.page.get_by_role("button", name="Remove", exact=True).click()
    await act(dashboard.page, "Remove")
    assert "edge-0006" not in dashboard.api.fleet.workers


async def test_a_pause_with_an_end_is_shown_and_then_applied(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page, fleet = dashboard.page, dashboard.api.fleet
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="8 hours").click()
    await act(page, "Pause", "firmware <b>update</b>")
    await page.get_by_role("button", name="Done").click()
    order = fleet.workers["edge-0001"].order
    assert order is not None
    assert order.until is not None
    assert 7.9 < (order.until - order.since).total_seconds() / 3600 < 8.1
    await expect(page.get_by_text("paused by anna")).to_contain_text("firmware <b>update</b>")
    await expect(page.get_by_text("not yet applied").first).to_be_visible()
    fleet.apply_settings()
    dashboard.api.changed("workers")
    await expect(page.get_by_text("not yet applied")).to_have_count(0)


async def test_a_bulk_action_names_what_failed(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page, api = dashboard.page, dashboard.api
    for name in ("edge-0001", "edge-0004", "edge-0006"):
        await page.get_by_label(f"Select {name}").check()
    bar = page.get_by_role("region", name="Selected rows")
    await expect(bar).to_contain_text("3 selected")
    await bar.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("2 workers will change; 1 can't be changed: its credential was revoked")
    await act(page, "Drain")
    await expect(dialog).to_contain_text("2 workers drained.")
    await expect(dialog).to_contain_text("1 failed")
    await expect(dialog.get_by_role("table", name="What failed")).to_contain_text("edge-0006")
    assert api.requests[-1][2]["workers"] == ["edge-0001", "edge-0004", "edge-0006"]
    assert api.fleet.workers["edge-0004"].state is WorkerState.DRAINING


async def test_a_bulk_action_on_all_that_match_sends_the_filter(dashboard: Dashboard) -> None:
    fleet = dashboard.api.fleet
    for index in range(140):
        name = f"bulk-{index:03d}"
        fleet.workers[name] = _copy(fleet.workers["edge-0001"], name)
    await dashboard.open("workers?text=bulk")
    page = dashboard.page
    await page.get_by_label("Select all rows of this page").check()
    bar = page.get_by_role("region", name="Selected rows")
    await bar.get_by_role("button", name="Select all 140 that match").click()
    await expect(bar).to_contain_text("140 selected")
    await bar.get_by_role("button", name="Pause").click()
    await act(page, "Pause")
    await expect(page.get_by_role("dialog")).to_contain_text("140 workers paused.")
    body = dashboard.api.requests[-1][2]
    assert body["where"] == {"text": "bulk"}
    assert "workers" not in body


async def test_a_bulk_action_on_all_workers_says_so(dashboard: Dashboard) -> None:
    """A filter that is missing by mistake must not select everything: the page asks for all of them by name."""
    fleet = dashboard.api.fleet
    for index in range(140):
        name = f"bulk-{index:03d}"
        fleet.workers[name] = _copy(fleet.workers["edge-0001"], name)
    await dashboard.open("workers?sel=*")
    page = dashboard.page
    await page.get_by_role("region", name="Selected rows").get_by_role("button", name="Pause").click()
    await act(page, "Pause")
    await expect(page.get_by_role("dialog")).to_contain_text("workers paused.")
    body = dashboard.api.requests[-1][2]
    assert body["all"] is True
    assert "where" not in body


def _copy(row: WorkerRow, name: str) -> WorkerRow:
    return row.model_copy(update={"worker": name})


async def test_rarer_actions_are_in_a_menu(dashboard: Dashboard) -> None:
    await dashboard.open("workers?sel=edge-0001%2Cedge-0003")
    page = dashboard.page
    await page.get_by_label("More actions").select_option(label="Change slots")
    await page.get_by_label("Slots", exact=True).fill("6")
    await act(page, "Change slots")
    assert {dashboard.api.fleet.workers[name].slots for name in ("edge-0001", "edge-0003")} == {6}
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_label("More actions")).to_have_value("")


async def test_pausing_a_site(dashboard: Dashboard) -> None:
    await dashboard.open("sites?sel=plant-lyon")
    page = dashboard.page
    await page.get_by_role("button", name="Pause", exact=True).click()
    await act(page, "Pause", "no power this weekend")
    assert dashboard.api.requests[-1][1] == routes.ADMIN_SITE_ACTIONS
    assert dashboard.api.fleet.site_orders["plant-lyon"].availability is Availability.PAUSED
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("row", name=re.compile("plant-lyon"))).to_contain_text("no power this weekend")


async def test_pausing_a_queue_and_changing_its_settings(dashboard: Dashboard) -> None:
    await dashboard.open("queues?sel=vision")
    page, fleet = dashboard.page, dashboard.api.fleet
    await page.get_by_role("button", name="Pause", exact=True).click()
    await act(page, "Pause", "lens is cleaned")
    assert fleet.queues["vision"].settings.order is not None
    assert dashboard.api.requests[-1][2]["queues"] == [{"queue": "vision"}]
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("button", name="Settings", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Offline tolerance (seconds)", exact=True).check()
    await dialog.get_by_label("Offline tolerance (seconds): new value").fill("7200")
    await dialog.get_by_label("Most jobs that run at once", exact=True).check()
    await act(page, "Change settings")
    sent = dashboard.api.requests[-1][2]["action"]
    assert sent == {"do": "set", "tolerance_s": 7200, "max_running": None}
    assert fleet.queues["vision"].settings.tolerance_s == 7200


async def test_cancelling_a_job(dashboard: Dashboard) -> None:
    job = next(row.job for row in dashboard.api.fleet.jobs.values() if row.state is JobState.RUNNING)
    await dashboard.open(f"jobs/{job}")
    page = dashboard.page
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await act(page, "Cancel")
    assert dashboard.api.fleet.jobs[job].state is JobState.ENDED
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("region", name="What became of it")).to_contain_text("The job has ended")


@pytest.mark.parametrize("button", ["Redrive", "Purge"])
async def test_dead_letters_in_bulk(dashboard: Dashboard, button: str) -> None:
    await dashboard.open("dead")
    page, fleet = dashboard.page, dashboard.api.fleet
    await page.get_by_label("Select all rows of this page").check()
    await page.get_by_role("button", name=button, exact=True).click()
    await act(page, button)
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("heading", name="There are no dead letters")).to_be_visible()
    assert not any(row.parked for row in fleet.jobs.values())


async def test_a_reason_is_required_and_escape_closes(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page = dashboard.page
    button = page.get_by_role("button", name="Pause", exact=True)
    await button.click()
    confirm = page.get_by_role("dialog").get_by_role("button", name=re.compile("^Pause"))
    await expect(page.locator(".preview")).to_contain_text("will change")
    await expect(confirm).to_be_disabled()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(button).to_be_focused()
    assert dashboard.api.fleet.workers["edge-0001"].state is WorkerState.ONLINE


async def test_a_refusal_is_explained_in_the_dialog(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    page = dashboard.page
    await page.get_by_role("button", name="Change queues").click()
    await page.get_by_label("Add", exact=True).fill("x" * 101)
    await expect(page.get_by_role("dialog")).to_contain_text("must have 1 to 100 characters")
    await page.get_by_label("Reason").fill("r")
    await expect(page.get_by_role("button", name="Change queues").last).to_be_disabled()


async def test_an_enrolment_token_is_shown_once_and_revoked(dashboard: Dashboard) -> None:
    await dashboard.open("tokens")
    page, api = dashboard.page, dashboard.api
    await page.get_by_role("button", name="Create an enrolment token").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Site").fill("plant-oslo")
    await dialog.get_by_label("Queues").fill("vision, quality")
    await dialog.get_by_label("Workers").fill("3")
    await dialog.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog).to_contain_text("It is shown once")
    await dialog.get_by_role("button", name="Copy token").click()
    assert await page.evaluate("navigator.clipboard.readText()") == "ere_Wn4bq3-shown-once-6f0"
    await dialog.get_by_role("button", name="Copy command").click()
    assert await page.evaluate("navigator.clipboard.readText()") == ENROLL.text("ere_Wn4bq3-shown-once-6f0")
    await expect(dialog).to_contain_text("The command writes the relay's CA into ca.pem")
    sent = {"site": "plant-oslo", "queues": ["vision", "quality"], "team": None, "uses": 3, "ttl_s": 3600}
    assert api.requests[-1] == ("POST", routes.ADMIN_ENROLL_TOKENS, sent)
    await dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("table", name="Enrolment tokens").get_by_role("row", name=re.compile("plant-oslo"))
    await expect(row).to_contain_text("0/3")
    assert "shown-once" not in await page.content()
    await row.get_by_role("button", name=re.compile("Revoke")).click()
    await page.get_by_label("Reason").fill("lost & found")
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(row).to_have_count(0)
    assert (api.requests[-1][0], api.requests[-1][2]) == ("DELETE", {"reason": "lost & found"})


async def test_an_access_token_with_a_role_and_limits(dashboard: Dashboard) -> None:
    await dashboard.open("tokens?create=access")
    page, api = dashboard.page, dashboard.api
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("night shift")
    await dialog.get_by_label("Role").select_option("operator")
    await dialog.get_by_label("Only these sites").fill("plant-lyon")
    await dialog.get_by_label("Valid for").select_option("24")
    await dialog.get_by_role("button", name="Create", exact=True).click()
    await expect(dialog.get_by_role("textbox", name="token")).to_have_text(re.compile("^era_"))
    body = api.requests[-1][2]
    assert (body["role"], body["sites"], body["queues"], body["ttl_s"]) == ("operator", ["plant-lyon"], None, 86400)
    await dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("table", name="Access tokens").get_by_role("row", name=re.compile("night shift"))
    await expect(row).to_contain_text("sites plant-lyon")
