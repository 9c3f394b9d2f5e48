"""A relay process before a real nats-server, both of which tests stop, kill and start again, with workers that poll."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from bench.scale.fleet import Member, Orders, running_fleet
from bench.scale.stand import RelayProcess
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN
from edge_broker.subjects import ACCESS_BUCKET, WORKERS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret, new_secret
from support.dashboard.browser import DESKTOP, EXPECTED_NETWORK_ERRORS, PATIENCE_MS
from support.nats.server import connected, running_server
from support.relay.crowd import access_of, entry_of
from support.relay.edge import create_access_token

POLL_TIMEOUT_S = 5.0
"""A worker is offline after three of them, which is less than a connection to a frozen broker lasts."""


@dataclass
class RealCentre:
    """Everything that runs."""

    nats: NatsServer
    relay: RelayProcess

    @property
    def url(self) -> str:
        """Of the page."""
        return f"{self.relay.operators_url}/ui/"

    def admin(self) -> AbstractAsyncContextManager[Broker]:
        """A connection for a moment: none of this process is there when the server is frozen."""
        return connected(self.nats, ADMIN)

    async def token(self, name: str = "anna", **more: Any) -> str:
        """A new access token; it may do everything unless said otherwise."""
        async with self.admin() as broker:
            return await create_access_token(broker, name, **more)

    async def enroll(self, worker: str, *, site: str = "plant-oslo") -> str:
        """Enrol a worker as a relay does; returns its secret."""
        secret = new_secret(SecretKind.WORKER)
        access = WorkerAccess(
            worker=worker,
            secret_hash=hash_secret(secret),
            site=site,
            settings=WorkerSettings(version=1, queues=("default",)),
            enrolled_at=datetime.now(UTC),
        )
        async with self.admin() as broker:
            accesses = Bucket(broker, ACCESS_BUCKET)
            await accesses.put(f"worker.{access.secret_hash}", access.model_dump_json().encode())
        return secret

    async def enroll_crowd(self, number: int) -> None:
        """Enrol many workers, each of which has polled just now."""
        async with self.admin() as broker:
            accesses, polls = Bucket(broker, ACCESS_BUCKET), Bucket(broker, WORKERS_BUCKET)
            for index in range(number):
                access = access_of(index)
                await accesses.put(f"worker.{access.secret_hash}", access.model_dump_json().encode())
                await polls.put(access.worker, entry_of(access))

    @asynccontextmanager
    async def polling(self, workers: Sequence[str]) -> AsyncIterator[None]:
        """New workers that poll, and retry as agents do, until the end of the block."""
        members = [Member(await self.enroll(worker), ()) for worker in workers]
        orders = Orders(self.relay.url, str(self.relay.ca_file), POLL_TIMEOUT_S, 4, members)
        async with running_fleet(orders):
            yield


@asynccontextmanager
async def real_centre(directory: Path) -> AsyncIterator[RealCentre]:
    """Everything, until the end of the block."""
    async with running_server(directory / "nats") as nats:
        relay = RelayProcess(directory, nats.url)
        try:
            await relay.start()
            yield RealCentre(nats, relay)
        finally:
            await relay.kill()


@asynccontextmanager
async def page_of(browser: Browser, url: str, token: str, view: str = "overview") -> AsyncIterator[Page]:
    """A page of the relay, signed in by its form. What its console complains about fails the test."""
    context = await browser.new_context(viewport={"width": DESKTOP["width"], "height": DESKTOP["height"]})
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    try:
        await page.goto(f"{url}#/{view}")
        await page.get_by_label("Access token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        yield page
    finally:
        await context.close()
    assert [said for said in complaints if not any(part in said for part in EXPECTED_NETWORK_ERRORS)] == []
