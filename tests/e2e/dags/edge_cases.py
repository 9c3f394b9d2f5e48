"""DAGs for the end-to-end tests: tasks that wait for the test, tasks that are stopped, tasks whose log is long."""
# ruff: noqa: T201  # what a task prints is its log

import os
import subprocess
import time

from airflow.sdk import Variable, chain, dag, task


@dag(schedule=None, catchup=False)
def held() -> None:
    """Served by a worker of its own."""

    @task(executor="edge", queue="watched")
    def hold() -> str:
        """Reads a variable, leaves an XCom, and continues once the test says so."""
        read = Variable.get("greeting")
        print("holding", flush=True)
        while Variable.get("go", default="no") != "yes":
            time.sleep(0.2)
        return f"{read} from the edge"

    hold()


@dag(schedule=None, catchup=False)
def endless() -> None:
    """Never ends by itself, nor does what it starts."""

    @task(executor="edge", queue="plant")
    def run_on() -> None:
        """Prints its process id and that of a child."""
        child = subprocess.Popen(["sleep", "600"])
        print(f"pids {os.getpid()} {child.pid}", flush=True)
        child.wait()

    run_on()


@dag(schedule=None, catchup=False)
def chatter() -> None:
    """Prints enough, and for long enough, to be cut off in between."""

    @task(executor="edge", queue="plant")
    def chat() -> None:
        """Bytes of all kinds, a few hundred lines a second."""
        for tick in range(20):
            print(f"tick {tick}", flush=True)
            for line in range(100):
                print(f"line {line} of tick {tick}: äöü ✓ \x1b[1mbold\x1b[0m {'x' * 60}", flush=True)
            time.sleep(0.25)

    chat()


@dag(schedule=None, catchup=False, max_active_tasks=64)
def weightless() -> None:
    """A backlog: far more tasks than slots."""

    @task(executor="edge", queue="plant")
    def wait(number: int) -> None:
        """Takes its slot for a moment."""
        time.sleep(2)

    wait.expand(number=list(range(30)))


@dag(schedule=None, catchup=False)
def weighty() -> None:
    """Comes later and is more important."""

    @task(executor="edge", queue="plant", priority_weight=100)
    def hurry() -> None:
        """Does nothing."""

    hurry()


@dag(schedule=None, catchup=False, max_active_tasks=1000)
def crowd() -> None:
    """Waits in a queue that nobody serves."""

    @task(executor="edge", queue="nobody", pool="crowd")
    def wait(number: int) -> None:
        """Never runs."""

    wait.expand(number=list(range(500)))


@dag(schedule=None, catchup=False)
def centre_only() -> None:
    """Work for the local executor, one task after another."""

    @task
    def step() -> None:
        """Nothing."""

    chain(*(step.override(task_id=f"step{n}")() for n in range(4)))


held()
endless()
chatter()
weightless()
weighty()
crowd()
centre_only()
