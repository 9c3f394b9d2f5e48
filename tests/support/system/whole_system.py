"""One whole system for all tests that ask for `system`, whichever folder they are in: its start is slow.

What takes minutes of waiting, and next to no work, can run next to the other tests: a coroutine function named by
`@pytest.mark.beside.with_args(it)` is started with the system; the marked test comes last and awaits the fixture
`beside`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from local.system.system import LocalSystem

TESTS = Path(__file__).parents[2]
DAGS = [TESTS / "e2e" / "dags", TESTS / "faults" / "dags"]
QUEUES: dict[str, dict[str, Any]] = {
    "brief": {"offline_tolerance": 10},
    "patient": {"offline_tolerance": 60},
    "stubborn": {"offline_tolerance": 10, "on_silence": "continue"},
}
OPTIONS = {
    ("edge_relay", "queues"): json.dumps(QUEUES),
    ("core", "test_connection"): "Enabled",
    # A scheduler that is killed is missed after seconds, not after half a minute: tests wait for it.
    ("scheduler", "scheduler_heartbeat_sec"): "1",
    ("scheduler", "scheduler_health_check_threshold"): "10",
    ("scheduler", "orphaned_tasks_check_interval"): "3",
}

_companions = pytest.StashKey[dict[str, asyncio.Task[Any]]]()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "AsyncIterator[LocalSystem]":
    """NATS, relay, Airflow with both executors, keeper, forward proxy and one worker for the queue `plant`."""
    from local.demo.paths import DAGS as OWN_DAGS
    from local.system.system import LocalSystem

    running = LocalSystem(tmp_path_factory.mktemp("system"), dags=[OWN_DAGS, *DAGS], options=OPTIONS)
    companions = request.session.stash[_companions] = {}
    try:
        await running.start()
        for item in request.session.items:
            for mark in item.iter_markers("beside"):
                companions[item.nodeid] = asyncio.create_task(mark.args[0](running), name=item.name)
        yield running
    finally:
        for companion in companions.values():
            companion.cancel()
        await asyncio.gather(*companions.values(), return_exceptions=True)
        # Airflow's own services stop slowly and need no orderly stop; our services get one.
        services = running.airflow.children.items()
        await asyncio.gather(*(child.crash() for name, child in services if not name.startswith("keeper")))
        await running.stop()


@pytest.fixture
def beside(request: pytest.FixtureRequest, system: "LocalSystem") -> Awaitable[Any]:
    """The companion that runs in parallel for this test."""
    return request.session.stash[_companions][request.node.nodeid]


def configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "beside(companion): awaits what was started together with the whole system")


def mark(items: list[pytest.Item]) -> None:
    """Let all that share the system share the loop in which it was started, and have time to wait for its start."""
    for item in items:
        if "system" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(240), append=True)
    items.sort(key=lambda item: item.get_closest_marker("beside") is not None)
