"""Headless Chromium, and a page of it that fails its test on whatever the console complains about."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from support.dashboard.api import COOKIE, FakeApi
from support.nats.server import free_port

PATIENCE_MS = 20_000
"""On a machine that does much else. What must be fast is timed by its test."""
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
EXPECTED_NETWORK_ERRORS = ("Failed to load resource", "net::ERR_")
"""What the browser itself reports when an answer is an error or there is none."""


def find_browser() -> str:
    """The program; skips the test where there is none, but never in continuous integration."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium: install Debian's package chromium, as .ci/browser does"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser."""
    program = find_browser()
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers do not have. It loads pages of these tests only.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Served:
    """The dashboard with its fake API on a port of its own; it can be stopped and started again."""

    api: FakeApi
    port: int = field(default_factory=free_port)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/ui/"

    async def start(self) -> None:
        """Serve."""
        self._runner = web.AppRunner(
            self.api.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Stop, as a relay that is killed."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@dataclass
class Dashboard:
    """An open page.

    Attributes:
        complaints: What the console and the page reported, except failed answers.
    """

    page: Page
    served: Served
    complaints: list[str]

    @property
    def api(self) -> FakeApi:
        """What it talks to."""
        return self.served.api

    async def open(self, view: str = "overview") -> None:
        """Open a view and wait until it shows data, or says why there is none."""
        await self.page.goto(f"{self.served.url}#/{view}")
        await self.ready()

    async def ready(self) -> None:
        """Wait until nothing is loading."""
        await self.page.wait_for_selector("main")
        await expect(self.page.locator(".skeleton, .boot, [aria-busy=true]")).to_have_count(0)


@asynccontextmanager
async def opened(
    browser: Browser,
    served: Served,
    *,
    token: str | None = "era_admin",
    dark: bool = False,
    phone: bool = False,
    zone: str | None = None,
) -> AsyncIterator[Dashboard]:
    """A page in a fresh context, signed in with a token unless that is None."""
    context = await browser.new_context(
        viewport={"width": PHONE["width"], "height": PHONE["height"]}
        if phone
        else {"width": DESKTOP["width"], "height": DESKTOP["height"]},
        color_scheme="dark" if dark else "light",
        has_touch=phone,
        timezone_id=zone,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    if token:
        await context.add_cookies([{"name": COOKIE, "value": token, "domain": "127.0.0.1", "path": "/"}])
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("console", lambda message: _note(complaints, message.type, message.text))
    try:
        yield Dashboard(page, served, complaints)
    finally:
        await context.close()
    assert not complaints, "\n".join(complaints)


def _note(complaints: list[str], kind: str, text: str) -> None:
    if kind in {"error", "warning"} and not any(part in text for part in EXPECTED_NETWORK_ERRORS):
        complaints.append(f"{kind}: {text}")
