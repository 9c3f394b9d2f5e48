"""The page and a real relay before a real NATS: what is shown is so, and what is pressed happens."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from edge_schemas.wire import routes
from support.relay.agents import agent, publish
from support.relay.edge import Edge, running_edge
from support.relay.producers import producer


@pytest_asyncio.fixture(loop_scope="session")
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, airflow_url="https://airflow.example") as running:
        yield running


@asynccontextmanager
async def signed_in(browser: Browser, edge: Edge) -> AsyncIterator[Page]:
    """A page of the relay's own operators' listener, signed in by its form."""
    context = await browser.new_context()
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{edge.relays[0].operators_url}/ui/")
    await page.get_by_label("Access token").fill(edge.access_token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    yield page
    await context.close()
    assert complaints == []


async def test_every_view_shows_data(browser: Browser, edge: Edge) -> None:
    worker = await agent(edge)
    await worker.poll(poll_timeout_s=0)
    job = await publish(edge.broker)
    async with signed_in(browser, edge) as page:
        views = ["workers", "sites", "queues", "jobs", f"workers/{worker.name}", f"jobs/{job.id}", "audit", "tokens"]
        for view in views:
            await page.goto(f"{edge.relays[0].operators_url}/ui/#/{view}")
            await expect(page.locator("main .table-frame, main .panel").first).to_be_visible()
            await expect(page.locator("main .notice.bad")).to_have_count(0)
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/jobs/{job.id}")
        await expect(page.get_by_role("region", name="Why it waits")).not_to_contain_text("can't be read")


async def test_a_pause_reaches_a_worker(browser: Browser, edge: Edge) -> None:
    worker = await agent(edge)
    await worker.poll(poll_timeout_s=0)
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/workers/{worker.name}")
        await page.get_by_role("button", name="Pause", exact=True).click()
        await page.get_by_label("Reason").fill("cleaning <b>the line</b>")
        await page.get_by_role("button", name="Pause 1 worker").click()
        await expect(page.get_by_role("dialog")).to_contain_text("1 worker paused")
        await page.get_by_role("button", name="Done").click()
        await expect(page.get_by_text("not yet applied").first).to_be_visible()
        answer = (await worker.poll(poll_timeout_s=0)).json
        assert answer["settings"]["availability"] == "paused"
        await worker.poll(poll_timeout_s=0, settings_version=answer["settings"]["version"])
        await expect(page.get_by_text("not yet applied")).to_have_count(0)
        await expect(page.get_by_role("region", name="History")).to_contain_text("cleaning <b>the line</b>")


@pytest.mark.soak
async def test_a_worker_links_its_job_to_airflow(browser: Browser, edge: Edge) -> None:
    worker = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await worker.grants()
    await worker.start(grant)
    await worker.poll(poll_timeout_s=0, jobs=[{"id": job.id, "phase": "running"}])
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/workers/{worker.name}")
        link = page.get_by_role("table", name="Jobs on this worker").get_by_role("link", name=re.compile("in Airflow"))
        assert job.task is not None
        assert (await link.get_attribute("href") or "").startswith(
            f"https://airflow.example/dags/{job.task.dag_id}/runs/"
        )


@pytest.mark.soak
async def test_cancelling_a_job(browser: Browser, edge: Edge) -> None:
    await agent(edge)
    job = await publish(edge.broker)
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/jobs/{job.id}")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await page.get_by_label("Reason").fill("not needed")
        await page.get_by_role("button", name="Cancel 1 job").click()
        await expect(page.get_by_role("dialog")).to_contain_text("1 job cancelled")
    shown = (await edge.admin("GET", routes.ADMIN_JOB.format(job=job.id))).json
    assert shown["row"]["state"] == "ended"
    assert re.search("not needed", str(shown))


@pytest.mark.soak
async def test_a_token_is_created_and_revoked(browser: Browser, edge: Edge) -> None:
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/tokens?create=enroll")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Site").fill("plant-oslo")
        await dialog.get_by_label("Queues").fill("vision")
        await dialog.get_by_role("button", name="Create", exact=True).click()
        token = await dialog.get_by_role("textbox", name="token").inner_text()
        assert (await edge.enroll(token)).status == 200
        await dialog.get_by_role("button", name="Done").click()
        row = page.get_by_role("table", name="Enrolment tokens").get_by_role("row", name=re.compile("plant-oslo"))
        await expect(row).to_contain_text("used up")
        await page.get_by_role("table", name="Access tokens").get_by_role("button", name="Revoke").first.click()
        await page.get_by_label("Reason").fill("lost")
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_role("textbox", name="Access token")).to_be_visible()
    assert (await edge.admin("GET", routes.ADMIN_SESSION)).status == 401


@pytest.mark.soak
async def test_a_queue_is_paused_and_its_settings_change(browser: Browser, edge: Edge) -> None:
    await publish(edge.broker)
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/queues")
        await page.get_by_label("Select all rows of this page").check()
        await page.get_by_role("button", name="Pause", exact=True).click()
        await page.get_by_label("Reason").fill("month end")
        await page.get_by_role("button", name="Pause 1 queue").click()
        await page.get_by_role("button", name="Done").click()
        await expect(page.locator("tbody")).to_contain_text("month end")
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_label("Most jobs that run at once", exact=True).check()
        await page.get_by_label("Most jobs that run at once: new value").fill("3")
        await page.get_by_label("Reason").fill("few licences")
        await page.get_by_role("button", name="Change settings of 1 queue").click()
        await page.get_by_role("button", name="Done").click()
        await expect(page.locator("tbody")).to_contain_text("at most 3 running")


async def test_a_producers_token_needs_queues_and_its_jobs_show_who_submitted_them(
    browser: Browser, edge: Edge
) -> None:
    async with signed_in(browser, edge) as page:
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/tokens")
        await page.get_by_role("button", name="Create an access token").click()
        await page.get_by_label("Name").fill("shop")
        await page.get_by_label("Role").select_option("producer")
        await expect(page.get_by_label("Only these sites")).to_have_count(0)
        create = page.get_by_role("button", name="Create", exact=True)
        await expect(create).to_be_disabled()
        await page.get_by_role("textbox", name="Queues").fill("orders")
        await create.click()
        await expect(page.get_by_text("For shop, role producer")).to_be_visible()
        shop = await producer(edge, "orders")
        job = await shop.submitted(name="order 7", labels={"day": "mon"}, delay_s=600)
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/jobs")
        row = page.get_by_role("row", name=re.compile("order 7"))
        await expect(row).to_contain_text("payload, by shop, day=mon")
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/jobs/{job}")
        facts = page.get_by_role("region", name="Job", exact=True)
        await expect(facts).to_contain_text("0 of 3")
        await expect(facts).to_contain_text("Delayed until")
        await expect(page.get_by_role("region", name="Why it waits")).to_contain_text("delayed until")
