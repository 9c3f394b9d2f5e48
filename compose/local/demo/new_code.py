"""Changes the code of a DAG between two runs, then runs the first one again.

Each run is pinned to the version of the code that it began with, also on the edge worker, which has no copy of the DAG
files of its own.
"""

from dataclasses import dataclass
from pathlib import Path

from local.processes.child import Child
from local.system.airflow import Airflow
from local.system.airflow_api import AirflowApi, wait_for_end

DAG = "shipped"
TASK = "brew"
HELPER = Path("plant/recipe.py")
OLD, NEW = "one spoon of salt", "two spoons of salt"
VERSION_WITHIN_S = 60
RUN_WITHIN_S = 60


@dataclass(frozen=True)
class CodeFindings:
    """What the task returned.

    Attributes:
        first: With the code as it was.
        second: In a run that began after the change.
        cleared: In the first run, cleared after the change.
        latest: In the first run, cleared with Airflow's option "run on latest version".
        versions: The version of the bundle before the change and after it.
    """

    first: str
    second: str
    cleared: str
    latest: str
    versions: tuple[str, str]


async def change_code(airflow: Airflow) -> CodeFindings:
    """Run the DAG, change the helper package in Airflow's DAG folder, and run it again, and the first run as well."""
    api, processor = airflow.api, airflow.children["dag-processor"]
    await processor.wait_until(lambda: api.has_dag(DAG), timeout_s=VERSION_WITHIN_S)
    before = await api.bundle_version(DAG)
    run, first = await _run(api)
    _change(airflow.directory / "dags" / HELPER)
    after = await _new_version(api, processor, before)
    _, second = await _run(api)
    cleared = await _run_again(api, run, on_latest=False)
    latest = await _run_again(api, run, on_latest=True)
    return CodeFindings(first, second, cleared, latest, (before, after))


def _change(helper: Path) -> None:
    helper.write_text(helper.read_text().replace(OLD, NEW))


async def _new_version(api: AirflowApi, processor: Child, before: str) -> str:
    """The version of the bundle, once it is another one."""

    async def changed() -> bool:
        return await api.bundle_version(DAG) != before

    await processor.wait_until(changed, timeout_s=VERSION_WITHIN_S)
    return await api.bundle_version(DAG)


async def _run(api: AirflowApi) -> tuple[str, str]:
    run = await api.trigger(DAG)
    return run, await _result(api, run)


async def _run_again(api: AirflowApi, run: str, *, on_latest: bool) -> str:
    await api.clear_run(DAG, run, on_latest=on_latest)
    return await _result(api, run)


async def _result(api: AirflowApi, run: str) -> str:
    state = await wait_for_end(api, DAG, run, timeout_s=RUN_WITHIN_S)
    return str(await api.xcom(DAG, run, TASK)) if state == "success" else state
