"""One centre and one machine with a warm task host, shared by the tests that cut links and kill workers."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.system.site import Machine, Site, enrolled, machine, running_site


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Its grants come again after three seconds instead of half a minute."""
    async with running_site(tmp_path_factory.mktemp("site"), grant_wait_s=3) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    """Its agent runs; a test that kills it starts it again."""
    with machine(site, await enrolled(site), tmp_path_factory.mktemp("edge") / "state", slots=24) as made:
        await made.start()
        warm = await site.publish(site.prepare(made, parts=1, pause_s=0))
        await site.ended(warm, within_s=90)
        yield made
