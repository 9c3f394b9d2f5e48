"""One browser for all tests of the dashboard, and a fake API with a page for each."""

from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from support.dashboard.api import FakeApi
from support.dashboard.browser import Dashboard, Served, chromium, opened
from support.dashboard.fleet import small_fleet


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """The browser lives in the loop of the session, and so does each test that uses it."""
    for item in items:
        if "integration/dashboard" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, started once."""
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def served() -> AsyncIterator[Served]:
    """The fake API with 40 workers, of which a few have troubles."""
    running = Served(FakeApi(small_fleet()))
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def dashboard(browser: Browser, served: Served) -> AsyncIterator[Dashboard]:
    """A page, signed in as administrator. What its console complains about fails the test."""
    async with opened(browser, served) as page:
        yield page
