"""Two schedulers, both with our executor, on PostgreSQL: one is killed, and the other takes over what it had begun."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from local.demo.paths import DAGS
from local.system.system import LocalSystem
from support.airflow import postgres
from support.system.inspection import until
from support.system.restarts import crash, tasks
from support.system.whole_system import OPTIONS

HERE = Path(__file__).parent
ROUNDS = 4

pytestmark = [pytest.mark.soak, pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing())]


@pytest_asyncio.fixture(loop_scope="session")
async def pair(tmp_path: Path) -> AsyncIterator[LocalSystem]:
    """A system with two schedulers and two keepers."""
    async with postgres.postgres() as url:
        options = {**OPTIONS, ("database", "sql_alchemy_conn"): url}
        system = LocalSystem(tmp_path / "system", dags=[DAGS, HERE / "dags"], options=options, schedulers=2, keepers=2)
        try:
            await system.start()
            yield system
        finally:
            await system.stop()


@pytest.mark.timeout(900)
async def test_each_scheduler_takes_over_from_the_other(pair: LocalSystem, tmp_path: Path) -> None:
    """Killed in turn, each while it owns some of the tasks; the keepers likewise."""
    services = pair.airflow.children
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with tasks(pair, folder) as running:
            await services["scheduler"].crash()
            await running.stir()
            await services["keeper"].crash()
            await running.stir()
            await services["scheduler"].start()
            await services["keeper"].start()
            await until(pair.airflow.is_ready, timeout_s=120, what="the first scheduler is back")
            await crash(services["scheduler-2"])
            await crash(services["keeper-2"])
            await running.end_well()
