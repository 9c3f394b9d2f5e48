"""Tasks that write down when their user code begins and ends; what they are to do stands in their DAG run's `conf`."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Variable, get_current_context, task


def _conf() -> dict[str, Any]:
    run = get_current_context()["dag_run"]
    conf = run.conf
    assert conf is not None
    return conf


def _note(conf: dict[str, Any], what: str) -> None:
    """One line, written at once, so that the lines of two processes never mix."""
    line = json.dumps({"job": conf["job"], "pid": os.getpid(), "what": what, "at": time.time()})
    with Path(conf["ledger"]).open("a") as ledger:
        ledger.write(line + "\n")


def _say(conf: dict[str, Any], part: int) -> None:
    for number in range(conf.get("lines", 20)):
        print(f"line {part}.{number} of {conf['job']}")  # noqa: T201 - a log to lose is the point


with DAG("cut", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):

    @task
    def step() -> int:
        """Prints, reads, prints, pushes, prints, returns: each step of a job's life takes a call or a log chunk."""
        conf = _conf()
        _note(conf, "begin")
        for part in range(conf.get("parts", 3)):
            _say(conf, part)
            time.sleep(conf.get("pause_s", 0.6))
        assert Variable.get("read", default="WRONG") == "right"
        get_current_context()["ti"].xcom_push(key="pushed", value="x")
        _note(conf, "end")
        return 42

    @task
    def until_told() -> int:
        """Ticks in its ledger until a file is there."""
        conf = _conf()
        _note(conf, "begin")
        count = 0
        while not Path(conf["flag"]).exists():
            count += 1
            _note(conf, "tick")
            print(f"tick {count} of {conf['job']}")  # noqa: T201
            time.sleep(0.2)
        _note(conf, "end")
        return int(conf["result"])

    step()
    until_told()
