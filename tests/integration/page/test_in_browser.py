"""The dashboard in Airflow's own UI, in a real browser before a real relay: in its frame, with its links out of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FrameLocator, Page, expect

from edge_schemas.wire import routes
from support.airflow.page_airflow import PageAirflow, page_airflow
from support.dashboard.browser import chromium
from support.dashboard.pictures import picture
from support.relay.agents import Agent, agent, publish
from support.relay.edge import Edge, running_edge

PATIENCE_MS = 40_000
pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
VERSIONS = {"agent": "0.1.0", "python": "3.12.3", "airflow": "3.2.0", "platform": "Linux"}
SITES = ("plant-lyon", "plant-lyon", "plant-lyon", "plant-osaka", "plant-osaka")


@dataclass(frozen=True)
class Both:
    """An Airflow whose page calls a relay.

    Attributes:
        agents: The fleet of the relay.
    """

    airflow: PageAirflow
    edge: Edge
    agents: list[Agent]
    browser: Browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    """A relay with a few workers, the api-server, and a browser."""
    home = tmp_path_factory.mktemp("airflow-before-a-relay")
    async with running_edge(tmp_path_factory.mktemp("relay")) as edge, chromium() as browser:
        agents = [await agent(edge, site=site) for site in SITES]
        for one in agents:
            await one.poll(poll_timeout_s=0, slots=4, free=4)
        settings = {
            "AIRFLOW__EDGE_RELAY__OPERATORS_URLS": edge.relays[0].operators_url,
            "AIRFLOW__EDGE_RELAY__OPERATORS_TOKEN": await edge.access_token_for("airflow", for_airflow=True),
        }
        with ExitStack() as stack:
            airflow = await asyncio.to_thread(stack.enter_context, page_airflow(home, settings))
            yield Both(airflow, edge, agents, browser)


@asynccontextmanager
async def signed_in(both: Both, user: str) -> AsyncIterator[Page]:
    """A page of a browser in which the user is signed in to Airflow. Nothing may break the page's policy."""
    with ExitStack() as stack:
        client = await asyncio.to_thread(stack.enter_context, both.airflow.browser(user))
        token = client.cookies["_token"]
    context = await both.browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    await context.add_cookies([{"name": "_token", "value": token, "url": both.airflow.url}])
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    try:
        yield page
    finally:
        await context.close()
    assert complaints == []


async def open_from_menu(both: Both, page: Page) -> FrameLocator:
    """The dashboard's list of workers, in Airflow's frame."""
    await page.goto(both.airflow.url)
    await page.get_by_role("button", name="Browse").click()
    await page.get_by_role("menuitem", name="Edge Relay").click()
    await page.wait_for_url(f"{both.airflow.url}/plugin/edge-relay**")
    frame = page.frame_locator("iframe[title='Edge Relay']")
    await frame.get_by_role("link", name="Workers", exact=True).click(timeout=PATIENCE_MS)
    await expect(frame.get_by_role("row", name=both.agents[0].name)).to_be_visible(timeout=PATIENCE_MS)
    return frame


async def test_an_operator_pauses_a_worker(both: Both) -> None:
    worker = both.agents[-1]
    async with signed_in(both, "op") as page:
        frame = await open_from_menu(both, page)
        await expect(frame.get_by_text("Live", exact=True)).to_be_visible()
        await expect(frame.locator("tbody tr")).to_have_count(len(SITES))
        await frame.get_by_label(f"Select {worker.name}").check()
        await frame.get_by_role("button", name="Pause", exact=True).click()
        await frame.get_by_label("Reason").fill("new firmware tonight")
        await frame.get_by_role("button", name="Pause 1 worker").click()
        await frame.get_by_role("button", name="Done").click()
        await expect(frame.get_by_role("row", name=worker.name)).to_contain_text("paused by op")
        answer = (await worker.poll(poll_timeout_s=0)).json
        assert answer["settings"]["availability"] == "paused"
        await worker.poll(poll_timeout_s=0, settings_version=answer["settings"]["version"])
        await expect(frame.get_by_role("row", name=worker.name)).not_to_contain_text("not yet applied")
        await frame.get_by_role("button", name="Clear", exact=True).click()
        report = {"slots": 4, "free": 4, "versions": VERSIONS, "settings_version": answer["settings"]["version"]}
        polls = [asyncio.create_task(one.poll(**report)) for one in both.agents]
        await expect(frame.locator("tbody .state", has_text="online")).to_have_count(len(SITES) - 1)
        await picture(page, "in-airflow")
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    [event] = [
        event
        for event in (await both.edge.admin("GET", routes.ADMIN_AUDIT)).json["items"]
        if event["target"] == worker.name and event.get("reason") == "new firmware tonight"
    ]
    assert (event["actor"]["name"], event["actor"]["by"], event["actor"]["token"]) == ("op", "airflow", "airflow")


async def test_a_viewer_sees_the_workers_and_no_buttons(both: Both) -> None:
    async with signed_in(both, "viewer") as page:
        frame = await open_from_menu(both, page)
        await expect(frame.get_by_text("viewer viewer")).to_be_visible()
        await expect(frame.get_by_role("checkbox")).to_have_count(0)
        await frame.get_by_role("link", name=both.agents[0].name, exact=True).click()
        await expect(frame.get_by_role("heading", level=1)).to_contain_text(both.agents[0].name)
        for action in ("Pause", "Drain", "Stop", "Revoke", "Sign out"):
            await expect(frame.get_by_role("button", name=action, exact=True)).to_have_count(0)


async def test_a_tab_of_a_task_shows_its_job_whose_link_leaves_the_frame(both: Both) -> None:
    job = await publish(both.edge.broker)
    task = job.task
    assert task is not None
    place = f"/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}"
    async with signed_in(both, "op") as page:
        await page.goto(f"{both.airflow.url}{place}/plugin/edge-relay-task-instance")
        frame = page.frame_locator("iframe[title='Edge job']")
        await expect(frame.get_by_role("region", name="Timeline")).to_be_visible(timeout=PATIENCE_MS)
        assert any(found.url.endswith(f"/edge-relay/ui/#/jobs/{job.id}") for found in page.frames)
        async with page.context.expect_page() as opened:
            await frame.get_by_role("link", name="Open in Airflow").click()
        await (await opened.value).wait_for_url(f"**{place}**")
