"""Every view: what it shows, its filters, its order and its pages, all in its address."""

import re

import pytest
from playwright.async_api import Browser, expect

from edge_schemas.wire.workers import WorkerState
from support.dashboard.answers import ENROLL
from support.dashboard.api import FakeApi
from support.dashboard.browser import Dashboard, Served, opened
from support.dashboard.fleet import NASTY, NASTY_HOST, NASTY_REASON, Fleet, small_fleet


async def test_the_overview_counts_and_names_what_needs_attention(dashboard: Dashboard) -> None:
    await dashboard.open()
    page, fleet = dashboard.page, dashboard.api.fleet
    running = sum(row.running or 0 for row in fleet.workers.values())
    await expect(page.get_by_role("link", name=re.compile("^Running"))).to_contain_text(str(running))
    attention = page.get_by_role("region", name="Needs attention")
    await expect(attention.get_by_role("listitem")).to_have_count(4)
    await attention.get_by_role("link", name=re.compile("plant-osaka is offline")).click()
    await expect(page).to_have_url(re.compile(r"#/workers\?site=plant-osaka&state=offline$"))
    await expect(page.get_by_role("table", name="Workers").get_by_role("row")).to_have_count(9)


async def test_an_empty_installation_leads_to_the_next_step(browser: Browser, served: Served) -> None:
    served.api.fleet = Fleet()
    async with opened(browser, served) as dashboard:
        await dashboard.open()
        steps = dashboard.page.get_by_role("region", name="Next steps")
        step = steps.get_by_role("listitem").nth(1)
        command = await step.get_by_role("textbox", name="command").inner_text()
        assert command == ENROLL.text()
        await step.get_by_role("button", name="Copy command").click()
        await expect(step.get_by_role("button", name="Copy command")).to_have_text("Copied")
        assert await dashboard.page.evaluate("navigator.clipboard.readText()") == command
        for view, text in [("workers", "No worker has enrolled"), ("queues", "no queues"), ("jobs", "No job waits")]:
            await dashboard.open(view)
            await expect(dashboard.page.get_by_role("heading", level=2)).to_contain_text(text)


async def test_workers_are_filtered_and_the_filter_is_in_the_address(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    table = page.get_by_role("table", name="Workers")
    await page.get_by_label("State").select_option("offline")
    await expect(table.get_by_role("row")).to_have_count(9)
    await page.get_by_label("Find").fill("edge-0002")
    await expect(table.get_by_role("row")).to_have_count(2)
    await expect(page).to_have_url(re.compile(r"state=offline&text=edge-0002|text=edge-0002&state=offline"))
    await page.reload()
    await dashboard.ready()
    await expect(page.get_by_label("Find")).to_have_value("edge-0002")
    await expect(table.get_by_role("row")).to_have_count(2)
    await page.get_by_label("Find").fill("no such worker")
    await expect(page.get_by_role("heading", name="No worker matches")).to_be_visible()
    await page.get_by_role("button", name="Clear filters").click()
    await expect(table.get_by_role("row")).to_have_count(41)


async def test_workers_are_sorted_by_a_click(dashboard: Dashboard) -> None:
    await dashboard.open("workers")
    page = dashboard.page
    first = page.get_by_role("table", name="Workers").locator("tbody tr").first
    await expect(first).to_contain_text("edge-0000")
    await page.get_by_role("button", name="Worker", exact=True).click()
    await expect(first).to_contain_text("edge-0039")
    header = page.get_by_role("columnheader", name="Worker", exact=True)
    await expect(header).to_have_attribute("aria-sort", "descending")
    await expect(page).to_have_url(re.compile("sort=-worker"))


async def test_one_worker_shows_its_jobs_with_links_to_airflow(dashboard: Dashboard) -> None:
    job = next(row for row in dashboard.api.fleet.jobs.values() if row.worker)
    await dashboard.open(f"workers/{job.worker}")
    page = dashboard.page
    await expect(page.get_by_role("heading", level=1)).to_contain_text(str(job.worker))
    row = page.get_by_role("table", name="Jobs on this worker").get_by_role("row").nth(1)
    link = row.get_by_role("link", name=re.compile("in Airflow"))
    href = await link.get_attribute("href")
    assert href is not None
    assert href.startswith(f"https://airflow.example/dags/{job.dag_id}/runs/scheduled__2026-11-29T")
    assert await link.get_attribute("rel") == "noopener noreferrer"
    await expect(page.get_by_role("region", name="Machine and link")).to_contain_text("GiB")


async def test_the_list_names_the_jobs_in_the_slots(dashboard: Dashboard) -> None:
    """The first with a link, how many more there are, and the next two in a title."""
    row = next(row for row in dashboard.api.fleet.workers.values() if (row.running or 0) > 3)
    await dashboard.open(f"workers?text={row.worker}")
    cell = dashboard.page.locator("tbody td[data-label='Slots and jobs']")
    first, second, third = (str(job.task) for job in row.jobs)
    link = cell.get_by_role("link", name=first, exact=True)
    await expect(link).to_have_attribute("href", f"#/jobs/{row.jobs[0].job}")
    more = cell.get_by_role("link", name=f"+{(row.running or 0) - 1} more")
    await expect(more).to_have_attribute("title", f"{second}\n{third}\n…")


async def test_a_worker_says_once_what_is_wrong(dashboard: Dashboard) -> None:
    """What keeps it from running jobs is not repeated among its problems."""
    text = "it has no Airflow runtime: run 'edge-worker runtime install' on it"
    dashboard.api.fleet.change_worker("edge-0004", problems=(text, "its clock is 95 s behind the relay's"))
    dashboard.api.fleet.missing["edge-0004"] = (text,)
    await dashboard.open("workers/edge-0004")
    await expect(dashboard.page.get_by_text("no Airflow runtime")).to_have_count(1)
    await expect(dashboard.page.get_by_role("region", name="Worker", exact=True)).to_contain_text(
        "clock is 95 s behind"
    )


async def test_a_worker_that_runs_nothing_shows_what_is_missing(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0008")
    missing = dashboard.page.get_by_role("region", name="What keeps it from running jobs")
    await expect(missing).to_contain_text("edge-worker run")


async def test_a_worker_that_does_not_exist(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-9999")
    alert = dashboard.page.get_by_role("alert").filter(has_text="can't be shown")
    await expect(alert).to_contain_text("there is no worker edge-9999")
    await expect(alert).to_contain_text("limited to other sites")


async def test_a_lost_site_is_one_line(dashboard: Dashboard) -> None:
    await dashboard.open("sites")
    row = dashboard.page.get_by_role("row", name=re.compile("plant-osaka"))
    await expect(row).to_contain_text("offline")
    await expect(row).to_contain_text("uplink lost: 8 workers vanished together")


async def test_queues_show_what_waits_and_who_could_take_it(dashboard: Dashboard) -> None:
    await dashboard.open("queues")
    queue = dashboard.api.fleet.queues["vision"]
    row = dashboard.page.get_by_role("row", name=re.compile("Select vision"))
    await expect(row).to_contain_text(f"{queue.held_back:,}")
    await expect(row).to_contain_text(f"{queue.workers_able}/{queue.workers}")
    await expect(row).to_contain_text(f"{sum(queue.in_per_minute[-6:])}/min")
    paused = dashboard.page.get_by_role("row", name=re.compile("Select reports"))
    await expect(paused).to_contain_text("paused by ben")
    await expect(paused).to_contain_text("tolerance 2 h, at most 20 running")


async def test_one_job_says_why_it_waits(dashboard: Dashboard) -> None:
    job = next(row for row in dashboard.api.fleet.jobs.values() if row.state == "waiting" and not row.parked)
    await dashboard.open(f"jobs/{job.job}")
    page = dashboard.page
    await expect(page.get_by_role("region", name="Why it waits")).to_contain_text("are full")
    await expect(page.get_by_role("region", name="Timeline")).to_contain_text("dispatched by Airflow")
    await expect(page.get_by_role("link", name=re.compile("Open in Airflow"))).to_be_visible()
    code = page.get_by_text("version 4f0c2a91b7d3 of dags, with the packages of gpu.txt")
    await expect(code).to_have_attribute("title", "4f0c2a91b7d3" + "0" * 52)


async def test_dead_letters_and_the_audit(dashboard: Dashboard) -> None:
    await dashboard.open("dead")
    page = dashboard.page
    await expect(page.get_by_role("table", name="Dead letters").locator("tbody tr")).to_have_count(3)
    await dashboard.open("audit?kind=queue")
    table = page.get_by_role("table", name="Audit")
    await expect(table.locator("tbody tr")).to_have_count(1)
    await expect(table).to_contain_text("month end")
    await expect(table).to_contain_text("availability: paused")


async def test_times_have_the_exact_instant(dashboard: Dashboard) -> None:
    await dashboard.open("workers/edge-0001")
    time = dashboard.page.locator("dd time").first
    title = await time.get_attribute("title") or ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d \(\d{4}-.*Z\)", title)
    assert re.search("ago$", await time.inner_text())


async def test_names_are_text_and_never_markup(dashboard: Dashboard) -> None:
    """Nothing of it runs: a dialog would fail the test."""
    for view, text in [("queues", NASTY), ("workers", NASTY_HOST), ("workers/edge-0000", NASTY_REASON)]:
        await dashboard.open(view)
        await expect(dashboard.page.get_by_text(text).first).to_be_visible()
    assert await dashboard.page.locator("main script, main img").count() == 0


async def test_a_page_holds_100_rows(browser: Browser, served: Served) -> None:
    served.api.fleet = small_fleet(250)
    async with opened(browser, served) as dashboard:
        await dashboard.open("workers?sort=worker")
        page = dashboard.page
        rows = page.get_by_role("table", name="Workers").locator("tbody tr")
        await expect(rows).to_have_count(100)
        pages = page.get_by_role("navigation", name="Pages")
        await expect(pages).to_contain_text(re.compile("1.100 of 250 workers"))
        await pages.get_by_role("button", name="Next").click()
        await expect(pages).to_contain_text(re.compile("101.200 of 250 workers"))
        await pages.get_by_role("button", name="Next").click()
        await expect(rows).to_have_count(50)
        await pages.get_by_role("button", name="Previous").click()
        await expect(rows.first).to_contain_text("edge-0100")
        await page.go_back()
        await expect(pages).to_contain_text(re.compile("201.250 of 250 workers"))


@pytest.mark.parametrize("view", ["nothing", "workers/a/b/c"])
async def test_an_address_that_leads_nowhere_says_so(dashboard: Dashboard, view: str) -> None:
    await dashboard.open(view)
    await expect(dashboard.page.get_by_role("heading", level=2)).to_have_text(re.compile("no such view|can't be shown"))


async def test_the_selection_is_in_the_address(dashboard: Dashboard) -> None:
    await dashboard.open("workers?sel=edge-0001%2Cedge-0003")
    page = dashboard.page
    await expect(page.get_by_role("region", name="Selected rows")).to_contain_text("2 selected")
    await page.get_by_role("checkbox", name="Select edge-0004").check()
    await expect(page).to_have_url(re.compile("edge-0004"))
    assert dashboard.api.fleet.workers["edge-0004"].state is WorkerState.UNHEALTHY


async def test_sign_in_is_needed(browser: Browser) -> None:
    fresh = Served(FakeApi(small_fleet()))
    await fresh.start()
    try:
        async with opened(browser, fresh, token=None) as dashboard:
            await dashboard.page.goto(f"{fresh.url}#/workers")
            await expect(dashboard.page.get_by_label("Access token")).to_be_focused()
            assert not any("workers" in read for read in fresh.api.reads)
    finally:
        await fresh.stop()
