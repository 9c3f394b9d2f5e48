"""Every action of the page on a real relay, keeper, NATS and agent: what is pressed happens at the worker, in time."""

import asyncio
import importlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from edge_broker import layout
from edge_broker.subjects import job_subject
from edge_relay.jobs import release
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.workers import WorkerState
from support.dashboard.operator import REASON, Person
from support.dashboard.real_centre import page_of
from support.nats.server import eventually
from support.relay.agents import Agent
from support.system.scripted_jobs import scripted_job
from support.system.site import Machine, Site, enrolled, machine, running_site
from support.worker.agent_process import EDGE_WORKER, WITH_FAKE_RUNTIME

WITHIN_S = 2.0
START_S = 2.0
"""What two new interpreters for a script may take on a busy machine; no part of the order's way."""
RELEASES_UNTIL_PARKED = 5


@pytest.fixture(scope="module")
def airflow_is_imported() -> None:
    """The keeper imports Airflow at its start, which would block the event loop of this test."""
    importlib.import_module("airflow")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(airflow_is_imported: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One centre for all tests here."""
    async with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def anna(browser: Browser, site: Site) -> AsyncIterator[Person]:
    """An administrator, at one page for all tests here."""
    url = f"{site.edge.relays[0].operators_url}/ui/"
    async with page_of(browser, url, await site.edge.access_token_for("anna")) as page:
        yield Person(page, url)


@asynccontextmanager
async def new_worker(site: Site, folder: Path, *, at: str = "plant") -> AsyncIterator[Machine]:
    """A machine whose agent has reached the relay."""
    with machine(site, await enrolled(site, at=at), folder / "state") as made:
        made.command = WITH_FAKE_RUNTIME
        await started(site, made)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    """For the actions after which the agent still runs; each test leaves it active."""
    async with new_worker(site, tmp_path_factory.mktemp("edge")) as made:
        yield made


def name_of(worker: Machine) -> str:
    return worker.identity.enrollment.worker


async def started(site: Site, worker: Machine) -> None:
    began = time.time()
    await worker.start()

    async def has_polled() -> bool:
        entry = await site.edge.relays[0].parts.workers.get(name_of(worker))
        return entry is not None and entry.agent.last_poll_at.timestamp() > began

    await eventually(has_polled, timeout_s=30, what="the agent polls")


async def logged(worker: Machine, event: str, began: float, **wanted: Any) -> None:
    """The agent has logged this, within two seconds of the click."""

    def found() -> float | None:
        for one in reversed(worker.events()):
            at = datetime.fromisoformat(one["timestamp"]).timestamp()
            if one["event"] == event and at >= began and wanted.items() <= one.items():
                return at
        return None

    at = await eventually(found, timeout_s=20, what=f"{event} {wanted}")
    assert at is not None
    assert at - began < WITHIN_S, f"{event} after {at - began:.2f} s"


async def published(site: Site, worker: Machine, queue: str | None = None) -> Job:
    job = scripted_job(site, worker)
    return await site.publish(job.model_copy(update={"queue": queue}) if queue else job)


async def begins(site: Site, job: Job, began: float) -> int:
    """User code begins within two seconds of the click; returns its process."""
    await site.began(job, within_s=20)
    first = site.ledger(job.id)[0]
    assert first.at - began < WITHIN_S + START_S, f"began after {first.at - began:.2f} s"
    return first.pid


async def ends_well(site: Site, job: Job) -> None:
    site.flag(job.id).touch()
    outcome = (await site.ended(job, within_s=20)).outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.SUCCEEDED


async def is_stopped(site: Site, job: Job, pid: int, began: float, grace_s: float) -> None:
    """The process is gone in time, and the record says that the job did not succeed."""
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=20, what="the process is gone")
    assert time.time() - began < WITHIN_S + grace_s
    outcome = (await site.ended(job, within_s=20)).outcome
    assert outcome is not None
    assert outcome.verdict is not Verdict.SUCCEEDED


async def row_of(site: Site, worker: Machine) -> dict[str, Any]:
    row: dict[str, Any] = (await site.edge.admin("GET", routes.ADMIN_WORKER.format(worker=name_of(worker)))).json["row"]
    return row


async def applies(site: Site, anna: Person, worker: Machine) -> None:
    """The worker has reported what was set, and the page shows that."""

    async def is_applied() -> bool:
        row = await row_of(site, worker)
        return bool(row["applied_version"] == row["settings_version"])

    await eventually(is_applied, what="the worker reports the settings")
    await expect(anna.page.get_by_text("not yet applied")).to_have_count(0)


async def exited(worker: Machine) -> int:
    async with asyncio.timeout(20):
        return await worker.ended()


async def test_pause_and_resume(anna: Person, site: Site, worker: Machine) -> None:
    await anna.open(f"workers/{name_of(worker)}")
    began = await anna.act("Pause", "paused")
    await logged(worker, "settings_changed", began, availability="paused")
    await applies(site, anna, worker)
    await expect(anna.page.locator("header .state")).to_have_text("paused")
    await expect(anna.page.locator("main")).to_contain_text(REASON)
    job = await published(site, worker)
    began = await anna.act("Resume", "resumed")
    assert (await site.record(job)).state is not JobState.ENDED
    await logged(worker, "settings_changed", began, availability="active")
    await begins(site, job, began)
    assert site.ledger(job.id)[0].at > began, "the paused worker did not start the job"
    await ends_well(site, job)


async def test_drain(anna: Person, site: Site, tmp_path: Path) -> None:
    """The job that runs ends well, the agent exits, and the next agent is idle until a person resumes the worker."""
    async with new_worker(site, tmp_path) as worker:
        job = await published(site, worker)
        await site.began(job)
        await anna.open(f"workers/{name_of(worker)}")
        began = await anna.act("Drain", "drained")
        await logged(worker, "settings_changed", began, availability="draining")
        await ends_well(site, job)
        assert await exited(worker) == 0
        waits = await published(site, worker)
        await started(site, worker)
        assert (await site.record(waits)).state is JobState.WAITING
        began = await anna.act("Resume", "resumed")
        await begins(site, waits, began)
        await ends_well(site, waits)


async def test_stop(anna: Person, site: Site, tmp_path: Path) -> None:
    async with new_worker(site, tmp_path) as worker:
        job = await published(site, worker)
        await site.began(job)
        await anna.open(f"workers/{name_of(worker)}")
        began = await anna.act("Stop", "stopped")
        await is_stopped(site, job, site.ledger(job.id)[0].pid, began, worker.settings.grace_s)
        assert await exited(worker) == 0


async def test_queues(anna: Person, site: Site, worker: Machine) -> None:
    other = f"{worker.queue}-night"
    await layout.ensure_consumer(site.broker, None, other, JobKind.TASK)
    await anna.open(f"workers/{name_of(worker)}")
    began = await anna.act("Change queues", "given other queues", fill={"Add": other, "Remove": worker.queue})
    await logged(worker, "settings_changed", began, queues=[other])
    job = await published(site, worker, other)
    await begins(site, job, time.time())
    await ends_well(site, job)
    began = await anna.act("Change queues", "given other queues", check=["Back to the queues of the enrolment"])
    await logged(worker, "settings_changed", began, queues=[worker.queue])
    await applies(site, anna, worker)


async def test_slots(anna: Person, site: Site, worker: Machine) -> None:
    """With one slot, the second job waits; it starts when there are two."""
    await anna.open(f"workers/{name_of(worker)}")
    began = await anna.act("Change slots", "given other slots", fill={"Slots": "1"})
    await logged(worker, "settings_changed", began, slots=1)
    await applies(site, anna, worker)
    jobs = [await published(site, worker) for _ in range(2)]
    await eventually(lambda: any(site.ledger(job.id) for job in jobs), what="one of two jobs runs")
    [waits] = [job for job in jobs if not site.ledger(job.id)]
    await expect(anna.page.get_by_role("region", name="Jobs (1)")).to_be_visible()
    assert not site.ledger(waits.id)
    began = await anna.act("Change slots", "given other slots", fill={"Slots": "2"})
    await begins(site, waits, began)
    for job in jobs:
        await ends_well(site, job)
    began = await anna.act("Change slots", "given other slots")
    await logged(worker, "settings_changed", began, slots=None)
    await applies(site, anna, worker)


async def test_labels(anna: Person, site: Site, worker: Machine) -> None:
    """They are for people: the agent does not need them."""
    await anna.open(f"workers/{name_of(worker)}")
    await anna.act("Change labels", "labelled", fill={"Set": "line=3, hall=b"})
    await expect(anna.page.get_by_text("line=3")).to_be_visible()
    await anna.open("workers?label=line=3")
    await expect(anna.page.locator("tbody tr")).to_have_count(1)
    await anna.open(f"workers/{name_of(worker)}")
    await anna.act("Change labels", "labelled", fill={"Remove": "line, hall"})
    await expect(anna.page.get_by_text("line=3")).to_have_count(0)
    await applies(site, anna, worker)


async def test_rotate(anna: Person, site: Site, worker: Machine) -> None:
    older = worker.identity.secret
    await anna.open(f"workers/{name_of(worker)}")
    began = await anna.act("Rotate credential", "told to rotate the credential")
    await logged(worker, "secret_rotated", began)

    async def is_refused() -> bool:
        return (await site.edge.call("GET", routes.WORKER, older)).status == 401

    await eventually(is_refused, what="the older secret is refused")
    job = await published(site, worker)
    await begins(site, job, time.time())
    await ends_well(site, job)


async def test_resolve(anna: Person, site: Site, tmp_path: Path) -> None:
    """A copied state folder: the agent that a person chooses gets the work."""
    async with new_worker(site, tmp_path / "first") as first:
        shutil.copytree(first.settings.state_dir, tmp_path / "second" / "state")
        with machine(site, first.identity, tmp_path / "second" / "state") as second:
            second.command = WITH_FAKE_RUNTIME
            await second.start()

            async def is_in_conflict() -> bool:
                return bool((await row_of(site, first))["state"] == WorkerState.CONFLICT)

            await eventually(is_in_conflict, timeout_s=30, what="both agents are seen")
            await anna.open(f"workers/{name_of(first)}")
            await first.kill_all()
            await anna.act("Resolve conflict", "resolved", check=["the newer agent"])
            await expect(anna.page.locator("header .state")).to_have_text("online")
            job = await published(site, second)
            await site.began(job)
            assert any(event["event"] == "job_started" for event in second.events())
            await ends_well(site, job)


async def test_revoke_and_remove(anna: Person, site: Site, tmp_path: Path) -> None:
    async with new_worker(site, tmp_path) as worker:
        await anna.open(f"workers/{name_of(worker)}")
        began = await anna.act("Revoke", "revoked")
        await logged(worker, "poll_refused", began, code="credential_revoked")
        await expect(anna.page.locator("header .state")).to_have_text("revoked")
        await anna.act("Remove", "removed")
        await anna.open("workers")
        await expect(anna.page.get_by_role("table", name="Workers")).not_to_contain_text(name_of(worker))
        shown = await site.edge.admin("GET", routes.ADMIN_WORKER.format(worker=name_of(worker)))
        assert shown.status == 404


async def test_a_site(anna: Person, site: Site, tmp_path: Path) -> None:
    """Paused and resumed; drained, which ends its agent; and stopped, which ends also the job."""
    async with new_worker(site, tmp_path, at="oslo") as worker:
        await anna.open("sites")
        await anna.select("oslo")
        began = await anna.act("Pause", "paused")
        await logged(worker, "settings_changed", began, availability="paused")
        began = await anna.act("Resume", "resumed")
        await logged(worker, "settings_changed", began, availability="active")
        job = await published(site, worker)
        await site.began(job)
        began = await anna.act("Drain", "drained")
        await logged(worker, "settings_changed", began, availability="draining")
        await expect(anna.page.locator("tbody")).to_contain_text(REASON)
        began = await anna.act("Stop", "stopped")
        await is_stopped(site, job, site.ledger(job.id)[0].pid, began, worker.settings.grace_s)
        assert await exited(worker) == 0


async def test_a_queue(anna: Person, site: Site, worker: Machine) -> None:
    """Settings act on the executor: tests/integration/executor/test_queue_settings.py."""
    await anna.open("queues")
    await anna.select(worker.queue)
    await anna.act("Pause", "paused")
    row = anna.page.get_by_role("row", name=re.compile(rf"^Select {worker.queue} "))
    await expect(row).to_contain_text(REASON)
    job = await published(site, worker)
    await anna.open(f"jobs/{job.id}")
    await expect(anna.page.get_by_role("region", name="Why it waits")).to_contain_text("queue_paused")
    await anna.open("queues")
    await anna.select(worker.queue)
    began = await anna.act("Resume", "resumed")
    await begins(site, job, began)
    assert site.ledger(job.id)[0].at > began, "the paused queue did not grant the job"
    await ends_well(site, job)
    most = "Most jobs that run at once"
    await anna.act("Settings", "changed", check=[most], fill={f"{most}: new value": "3"})
    await expect(row).to_contain_text("at most 3 running")
    await anna.act("Settings", "changed", check=[most])
    await expect(row).not_to_contain_text("at most 3 running")


@pytest.mark.parametrize("view", ["job", "list"])
async def test_cancel(anna: Person, site: Site, worker: Machine, view: str) -> None:
    job = await published(site, worker)
    await site.began(job)
    await anna.open(f"jobs/{job.id}" if view == "job" else "jobs")
    if view == "list":
        await anna.select(job.id)
    began = await anna.act("Cancel", "cancelled")
    await is_stopped(site, job, site.ledger(job.id)[0].pid, began, worker.settings.grace_s)


async def parked(site: Site, worker: Machine) -> Job:
    """A job that another worker of the queue has released five times."""
    await site.edge.act_on_worker(name_of(worker), "pause")
    other = Agent(site.edge, await site.edge.worker(queue=worker.queue))
    job = await published(site, worker)
    with patch.object(release, "MAX_RELEASE_DELAY_S", 0.01):
        for _ in range(RELEASES_UNTIL_PARKED):
            [grant] = await other.grants()
            assert (await other.release(grant)).status == 204
    assert (await site.record(job)).parked
    await site.edge.act_on_worker(other.name, "revoke")
    await site.edge.act_on_worker(name_of(worker), "resume")
    return job


async def test_redrive(anna: Person, site: Site, worker: Machine) -> None:
    """The job's executor, which is no part of this system, republishes it: see tests/integration/executor."""
    job = await parked(site, worker)
    await anna.open("dead")
    await anna.select(job.id)
    began = await anna.act("Redrive", "redriven")
    await expect(anna.page.get_by_role("heading", name="There are no dead letters")).to_be_visible()
    assert (await site.record(job)).parked is None
    await site.broker.store(job_subject(job.team, job.queue, job.kind, job.id), job.model_dump_json().encode())
    await begins(site, job, began)
    await ends_well(site, job)


async def test_purge(anna: Person, site: Site, worker: Machine) -> None:
    job = await parked(site, worker)
    await anna.open("dead")
    await anna.select(job.id)
    await anna.act("Purge", "purged")
    await expect(anna.page.get_by_role("heading", name="There are no dead letters")).to_be_visible()
    record = await site.record(job)
    assert (record.state, site.ledger(job.id)) == (JobState.ENDED, [])


async def enroll(site: Site, folder: Path, token: str) -> int:
    """What the person at the machine types; returns the exit status."""
    process = await asyncio.create_subprocess_exec(
        *EDGE_WORKER, "enroll", "--relay", site.link.url, "--token-file", "-",
        env={"PATH": os.environ["PATH"], "EDGE_WORKER_STATE_DIR": str(folder)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(30):
        await process.communicate(token.encode())
    assert process.returncode is not None
    return process.returncode


async def created(anna: Person, kind: str, **fill: str) -> str:
    """Create a token at the page, and read the token there."""
    await anna.open(f"tokens?create={kind}")
    dialog = anna.page.get_by_role("dialog")
    for label, text in fill.items():
        await dialog.get_by_label(label, exact=True).fill(text)
    await dialog.get_by_role("button", name="Create", exact=True).click()
    token = await dialog.get_by_role("textbox", name="token").inner_text()
    if kind == "enroll":
        await expect(dialog).to_contain_text("If a private CA has signed the relay's certificate")
    await dialog.get_by_role("button", name="Done").click()
    return token


async def revoked(anna: Person, table: str, row: str) -> float:
    """Revoke a token at the page; returns when this was confirmed."""
    found = anna.page.get_by_role("table", name=table).get_by_role("row", name=re.compile(row))
    await found.get_by_role("button", name="Revoke").click()
    dialog = anna.page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(REASON)
    began = time.time()
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(dialog).to_have_count(0)
    return began


async def test_enrolment_tokens(anna: Person, site: Site, tmp_path: Path) -> None:
    """A worker enrols with one and is on the page; a revoked one is refused."""
    token = await created(anna, "enroll", Site="bergen", Queues="default", Workers="2")
    assert await enroll(site, tmp_path / "first", token) == 0
    await anna.open("workers?site=bergen")
    await expect(anna.page.locator("tbody tr .state")).to_have_text(["never seen"])
    await anna.open("tokens")
    await revoked(anna, "Enrolment tokens", "bergen")
    assert await enroll(site, tmp_path / "second", token) != 0


async def test_access_tokens(anna: Person, site: Site) -> None:
    token = await created(anna, "access", Name="night shift")

    async def status() -> int:
        return (await site.edge.call("GET", routes.ADMIN_SESSION, token, operators=True)).status

    assert await status() == 200
    began = await revoked(anna, "Access tokens", "night shift")

    async def is_refused() -> bool:
        return await status() == 401

    await eventually(is_refused, what="the token is refused")
    assert time.time() - began < WITHIN_S
