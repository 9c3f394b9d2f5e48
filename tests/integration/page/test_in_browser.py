"""The page in Airflow's own UI, in a real browser: in its frame, with its links out of it."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from support.airflow.page_airflow import PageAirflow
from support.operators.recording_relay import FakeOperators

PATIENCE_MS = 40_000
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def program() -> str:
    """The browser; without one the test is skipped, but never in continuous integration."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium: run .ci/browser")
    pytest.skip("no Chromium: install Debian's package chromium")


@pytest.fixture
def context(program: str, airflow_with_page: PageAirflow) -> Iterator[BrowserContext]:
    """A browser in which a user who may operate is signed in to Airflow."""
    with airflow_with_page.browser("op") as client, sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers do not have. It loads pages of these tests only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_context(viewport={"width": 1280, "height": 800})
        opened.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        opened.add_cookies([{"name": "_token", "value": client.cookies["_token"], "url": airflow_with_page.url}])
        yield opened
        browser.close()


def test_the_page_lives_in_airflows_frame(
    context: BrowserContext, airflow_with_page: PageAirflow, relay: FakeOperators
) -> None:
    page = context.new_page()
    violations: list[str] = []
    page.on("console", lambda message: violations.append(message.text) if "Content Security" in message.text else None)
    _open_from_menu(page, airflow_with_page.url)
    frame = page.frame_locator("iframe[title='Edge Relay']")
    expect(frame.get_by_role("heading", name="the fleet")).to_be_visible()
    expect(frame.locator("#said")).to_have_text("changed")
    frame.locator("#pause").click()
    expect(frame.locator("#said")).to_have_text("status 200")
    assert relay.calls("/v1/admin/worker-actions")[-1].headers["edge-acting-as"] == "operator"

    frame.locator("#inside").click()
    expect(frame.get_by_role("heading", name="the fleet")).to_be_visible()
    with context.expect_page() as opened:
        frame.locator("#tab").click()
    opened.value.wait_for_url("**/dags/d/runs/r/tasks/t")
    opened.value.close()
    frame.locator("#here").click()
    page.wait_for_url(f"{airflow_with_page.url}/dags")
    assert violations == []


def test_a_tab_of_a_dag_shows_its_jobs(context: BrowserContext, airflow_with_page: PageAirflow) -> None:
    page = context.new_page()
    page.goto(f"{airflow_with_page.url}/dags/a%20b/runs/manual__1%2B2/tasks/t/plugin/edge-relay-task-instance")
    frame = page.frame_locator("iframe[title='Edge job']")
    expect(frame.get_by_role("heading", name="the fleet")).to_be_visible()
    assert any(found.url.endswith("/edge-relay/ui/#/jobs/7") for found in page.frames), [f.url for f in page.frames]


def _open_from_menu(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Edge Relay").click()
    page.wait_for_url(f"{url}/plugin/edge-relay**")
