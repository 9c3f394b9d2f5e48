"""One core with an edge site for the tests of this folder; it takes minutes to start."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from local.system.airflow_api import ENDED, AirflowApi
from support.system.compose_stack import Core, Stack, answered


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """Built from the Dockerfiles, started, and tried out with the demo DAG."""
    stack = Stack("edge-relay-test", _open_folder(tmp_path_factory), ["edge"])
    stack.down()
    try:
        began = time.monotonic()
        stack.compose("build", "--quiet")
        print(f"\nimages built in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        stack.compose("up", "--detach")
        run = stack.airflow(partial(_first_run, began=began))
        print("memory by service, after the demo DAG:")
        for name, memory in stack.memory().items():
            print(f"  {name:26} {memory}")
        yield Core(stack, run)
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.down()


async def _first_run(api: AirflowApi, *, began: float) -> str:
    run = await answered(lambda: api.trigger("demo"), bool)
    print(f"DAG triggered {time.monotonic() - began:.0f} s after `up`")

    def greeted(instances: list[dict[str, object]]) -> bool:
        return any(one["task_id"] == "greet" and one["state"] in ENDED for one in instances)

    instances = await answered(lambda: api.task_instances("demo", run), greeted)
    assert {one["state"] for one in instances if one["task_id"] == "greet"} == {"success"}
    print(f"first task at the edge done {time.monotonic() - began:.0f} s after `up`")
    return run


def _open_folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("compose") / "dags"
