"""Odd tasks end at the edge as under the local executor: states, XComs, log lines, rendered fields, asset events.

The cases are the functions of `dags/parity.py`, each a task or a few. Odd keys, and calls that the api-server refuses,
are in the other files of this folder. A part runs each time, the rest with `make soak`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio

from e2e.parity.dags.parity import ACTIVE, CASES, QUEUE, Case
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem, stop_completely
from support.system.inspection import until
from support.system.observed.outcomes import ASPECTS, Outcome, outcomes

CONNECTION = {
    "connection_id": "parity_connection",
    "conn_type": "http",
    "host": "host.example",
    "port": 8443,
    "schema": "a/b?c",
    "login": "us:er@",
    "password": "p@ss/w:rd äöü",
    "extra": '{"ключ": ["✓", null, {"deep": "\\u0000"}], "": 1, "a/b": "c&d=e"}',
}
BOUND_S = 30
LATE_LOGS = 5
"""How often logs are read again."""


@dataclass
class Group:
    """Both runs of a group's tasks, by case."""

    centre: dict[str, Outcome]
    edge: dict[str, Outcome]


async def run_group(system: LocalSystem, name: str, cases: list[Case]) -> Group:
    """Run the tasks of a group with both executors at once."""
    dags = [f"{name}_centre", f"{name}_edge"]
    for dag in dags:
        await until(partial(system.api.has_dag, dag), timeout_s=60)
    runs = {dag: await system.api.trigger(dag) for dag in dags}
    await asyncio.gather(*(wait_for_end(system.api, dag, run, timeout_s=1200) for dag, run in runs.items()))
    tasks = (await system.api.get(f"dags/{dags[0]}/tasks"))["tasks"]
    ids = {task["task_id"]: task["task_id"].partition("__")[0] for task in tasks}
    assert set(ids.values()) == {case.name for case in cases}
    centre, edge = [await outcomes(system, dag, run, ids) for dag, run in runs.items()]
    for _ in range(LATE_LOGS):
        if all(edge[case.name].log == centre[case.name].log for case in cases if "log" not in case.better):
            break
        # The end of a log may arrive after the state.
        await asyncio.sleep(1)
        edge = await outcomes(system, dags[1], runs[dags[1]], ids)
    return Group(centre, edge)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def parity_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalSystem]:
    """A system for these tests only: the one that the others share takes a scheduler for dead that is busy."""
    system = LocalSystem(tmp_path_factory.mktemp("parity"), dags=[Path(__file__).parent / "dags"])
    try:
        await system.start(queues=[QUEUE], slots=ACTIVE)
        await system.api.post("connections", CONNECTION)
        yield system
    finally:
        await stop_completely(system)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def few(parity_system: LocalSystem) -> Group:
    """The cases that run each time."""
    return await run_group(parity_system, "parity", [case for case in CASES if not case.soak])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(parity_system: LocalSystem) -> Group:
    """The cases that `make soak` runs."""
    return await run_group(parity_system, "parity_soak", [case for case in CASES if case.soak])


def compare(case: Case, group: Group) -> None:
    """Each aspect is the same, or better in the way that the case says."""
    centre, edge = group.centre[case.name], group.edge[case.name]
    assert centre.end, "the comparison is about something"
    for aspect in ASPECTS:
        at_centre, at_edge = getattr(centre, aspect), getattr(edge, aspect)
        if aspect in case.better:
            better = case.better[aspect]
            assert better.edge in str(at_edge), better.reason
            assert better.centre in str(at_centre), better.reason
            assert not better.edge or better.edge not in str(at_centre), f"no longer different: {better.reason}"
            assert not better.centre or better.centre not in str(at_edge), f"no longer different: {better.reason}"
        else:
            assert at_edge == at_centre, aspect


def compare_times(group: Group) -> None:
    """The bounds are wide: they find a task that waits for what never comes, not one that is slower."""
    for name, centre in group.centre.items():
        assert max(group.edge[name].seconds) < max(centre.seconds) + BOUND_S, name
    times = [[second for outcome in side.values() for second in outcome.seconds] for side in (group.centre, group.edge)]
    centre_median, edge_median = map(median, times)
    assert edge_median < 3 * centre_median + 3


@pytest.mark.parametrize("case", [case for case in CASES if not case.soak], ids=lambda case: case.name)
async def test_it_is_alike_at_the_edge(few: Group, case: Case) -> None:
    compare(case, few)


async def test_no_task_takes_far_longer_at_the_edge(few: Group) -> None:
    compare_times(few)


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("case", [case for case in CASES if case.soak], ids=lambda case: case.name)
async def test_it_is_alike_at_the_edge_too(many: Group, case: Case) -> None:
    compare(case, many)


@pytest.mark.soak
@pytest.mark.timeout(1500)
async def test_none_of_many_tasks_takes_far_longer_at_the_edge(many: Group) -> None:
    compare_times(many)
