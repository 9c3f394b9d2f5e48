"""The parts of the centre go and come back while tasks run at the edge: each task ends well, once, in its first try.

All of it in `make soak`; `make test` kills each part once in tests/faults/test_airflow_chaos.py.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from local.processes.child import Child
from local.system.system import LocalSystem
from support.system.restarts import crash, crash_nats, crash_relay, restart, restart_relay, tasks

SERVICES = ("keeper", "api-server", "scheduler", "triggerer", "dag-processor")
Fault: TypeAlias = Callable[[LocalSystem], Awaitable[None]]


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_tasks_outlast_the_restart_of_each_part(system: LocalSystem, tmp_path: Path) -> None:
    """One part after the other, while tasks begin and end."""
    services = system.airflow.children
    async with tasks(system, tmp_path) as running:
        faults: list[Callable[[], Awaitable[None]]] = [
            lambda: crash(services["keeper"]),
            lambda: crash_nats(system),
            lambda: crash(services["api-server"]),
            lambda: crash_relay(system),
            lambda: restart(services["scheduler"]),
            lambda: restart(services["keeper"]),
            lambda: crash(services["scheduler"]),
        ]
        for fault in faults:
            await fault()
            await running.stir()
        await running.end_well()


def _service(fault: Callable[[Child], Awaitable[None]], name: str) -> Fault:
    return lambda system: fault(system.airflow.children[name])


FAULTS: dict[str, Fault] = {
    **{f"{name} killed": _service(crash, name) for name in SERVICES},
    **{f"{name} restarted": _service(restart, name) for name in SERVICES},
    "NATS killed": crash_nats,
    "relay killed": crash_relay,
    "relay restarted": restart_relay,
}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_tasks_outlast_a_part_that_goes_again_and_again(
    system: LocalSystem, tmp_path: Path, fault: Fault
) -> None:
    """While anything runs; a part that is not back yet goes again too."""
    async with tasks(system, tmp_path) as running:
        while not running.done:
            await fault(system)
            await running.stir()
        await running.end_well()
