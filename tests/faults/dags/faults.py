"""Tasks that write down themselves what becomes of them, so that nobody's word has to be taken for it.

A run's `conf` names the ledger: one JSON object a line, appended in one write. `faults.chaos.ledger` reads it.
"""
# ruff: noqa: T201  # what a task prints is its log

import json
import os
import random
import signal
import subprocess
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Variable, get_current_context, task

PULSE_S = 0.2
STOPPABLE = 24


def conf(name: str) -> Any:
    """What the run was given."""
    given = get_current_context()["dag_run"].conf
    assert given is not None
    return given[name]


def note(event: str, **more: Any) -> None:
    """Add a line to the ledger."""
    ti = get_current_context()["ti"]
    line = {
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "map_index": ti.map_index,
        "try": ti.try_number,
        "pid": os.getpid(),
        "event": event,
        "time": time.time(),
        **more,
    }
    ledger = os.open(conf("ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, json.dumps(line).encode() + b"\n")
    finally:
        os.close(ledger)


def live(seconds: float) -> None:
    """Work for so long, with a sign of life now and then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(PULSE_S, left))
        note("alive")


@task(executor="edge", queue="chaos", retries=3, retry_delay=timedelta(0))
def work(number: int) -> int:
    """A read in the middle, which must not come out wrong; an XCom at the end. One in ten fails on its first try."""
    note("begin")
    print(f"begin {number}", flush=True)
    chance = random.Random(number)  # only to differ
    live(chance.uniform(0.2, 2))
    note("read", value=Variable.get("chaos", default="default"))
    live(chance.uniform(0.1, 1))
    print(f"end {number}", flush=True)
    if number % 10 == 3 and get_current_context()["ti"].try_number == 1:
        note("raise")
        msg = "on purpose"
        raise RuntimeError(msg)
    note("end")
    return number * 2


@task(retries=1, retry_delay=timedelta(0))
def work_long() -> str:
    """Works for as long as its run says, the second time only briefly, and prints a line a second."""
    note("begin")
    is_first = get_current_context()["ti"].try_number == 1
    for second in range(int(conf("seconds")) if is_first else 2):
        print(f"second {second}", flush=True)
        live(1)
    note("end")
    return "done"


@task(executor="edge", queue="stop")
def run_on(number: int) -> None:
    """Has a child, and neither of the two heeds SIGTERM: it is only written down."""
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    signal.signal(signal.SIGTERM, lambda *_: note("term"))
    note("begin", child=child.pid)
    while True:
        live(1)


for size in (20, 30, 500):
    with DAG(f"chaos_{size}", schedule=None, catchup=False, max_active_tasks=1000):
        work.expand(number=list(range(size)))
for name in ("long", "scaled", "brief", "patient", "stubborn"):
    with DAG(f"one_{name}", schedule=None, catchup=False):
        work_long.override(executor="edge", queue=name)()
with DAG("stoppable", schedule=None, catchup=False, max_active_tasks=1000):
    run_on.expand(number=list(range(STOPPABLE)))
with DAG(
    "stoppable_timeout", schedule=None, catchup=False, max_active_tasks=1000, dagrun_timeout=timedelta(seconds=45)
):
    run_on.expand(number=list(range(STOPPABLE)))
