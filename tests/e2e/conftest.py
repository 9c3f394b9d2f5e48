"""One whole system for all end-to-end tests: starting it takes longer than most of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from laptop.system import DAGS, LaptopSystem

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these share the loop in which the system was started, and may have to wait for its start."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(240))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LaptopSystem]:
    """NATS, relay, Airflow with both executors, keeper, forward proxy and one boxed worker for the queue `plant`."""
    running = LaptopSystem(tmp_path_factory.mktemp("system"), dags=[DAGS, HERE / "dags"])
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
