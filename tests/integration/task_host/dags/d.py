"""The tasks that the tests run at the edge."""
# ruff: noqa: T201 (what they print is the point)

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Connection, Variable, task
from airflow.sdk.exceptions import AirflowNotFoundException


def pause_until(flag: str) -> None:
    """Wait for the test to say 'continue'."""
    while not Path(flag).exists():
        time.sleep(0.02)


def write_ledger() -> NoReturn:
    """Write down ten times a second that this process lives."""
    with Path(Variable.get("ledger")).open("a", buffering=1) as ledger:
        while True:
            ledger.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)}\n")
            time.sleep(0.1)


with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):

    @task(execution_timeout=timedelta(hours=1))
    def crash_in_c() -> None:
        print("about to crash")
        ctypes.string_at(0)

    @task
    def hello() -> list[int]:
        print("hello from the edge")
        return [42]

    @task
    def name_machine() -> str:
        return socket.gethostname()

    @task
    def fail() -> None:
        msg = "the machine is on fire"
        raise RuntimeError(msg)

    @task
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def show_environment() -> None:
        print("environment", sorted(os.environ))
        print("path", sys.path)
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                print("descriptor", descriptor.readlink())

    @task
    def tick() -> None:
        """Prints a line and waits for the flag that the test sets."""
        print("tick 1")
        pause_until(Variable.get("flag"))
        print("tick 2")

    @task
    def leave_behind() -> None:
        """Ends, but what it has started keeps its output open."""
        subprocess.Popen(["sleep", "6"], start_new_session=True)

    @task
    def die_later() -> None:
        """Is killed, by itself, once the test sets the flag."""
        print("tick 1")
        pause_until(Variable.get("flag"))
        print("tick 2", flush=True)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def chatter() -> None:
        """Prints, and counts elsewhere what it has printed, until the test sets the flag."""
        flag, count = Path(Variable.get("flag")), Path(Variable.get("count"))
        for number in itertools.count():
            print("line", number, "x" * 1000, flush=True)
            count.write_text(str(number))
            if flag.exists():
                break
            time.sleep(0.005)
        print("last")

    @task
    def read_much() -> None:
        """Reads variables and connections for some time, and checks each."""
        wrong, reads = [], int(Variable.get("reads"))
        print("reading", flush=True)
        for number in range(reads):
            value = Variable.get(f"v{number % 7}", default="DEFAULT")
            if value != f"value-{number % 7}":
                wrong.append(value)
            try:
                host = Connection.get(f"c{number % 7}").host
            except AirflowNotFoundException:
                host = None
            if host != f"host-{number % 7}":
                wrong.append(str(host))
            time.sleep(0.01)
        print("wrong:", wrong, "of", reads)

    @task
    def read_with_default() -> None:
        print("value:", Variable.get("v1", default="DEFAULT"))

    @task
    def read_secret() -> None:
        Variable.get("api_password")
        print("done")

    @task
    def print_while_reading() -> None:
        """A thread prints far more than the pipes hold while the main thread waits in a read."""
        done = threading.Event()
        longest = 0.0

        def chatter() -> None:
            nonlocal longest
            before = time.monotonic()
            for number in range(5000):
                print("line", number)
                now = time.monotonic()
                longest = max(longest, now - before)
                before = now
            Path(os.environ["AIRFLOW_HOME"], "chatter-done").touch()
            done.set()

        thread = threading.Thread(target=chatter)
        thread.start()
        print("value:", Variable.get("v1", default="DEFAULT"))
        thread.join()
        print("stalled", round(longest, 1))

    @task
    def stubborn() -> None:
        """Ignores SIGTERM and has started processes that left its session, one of them orphaned."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nested = "trap '' TERM; (setsid sleep 1000 & echo $! >> {0}; setsid sleep 1000 & echo $! >> {0}); sleep 1000"
        child = subprocess.Popen(["setsid", "bash", "-c", nested.format(Variable.get("pids"))])
        with Path(Variable.get("pids")).open("a") as pids:
            pids.write(f"{os.getpid()}\n{child.pid}\n")
        while True:
            time.sleep(1)

    @task
    def polite() -> None:
        """Goes at SIGTERM, as a task does whose `on_kill` ends its work."""

        def leave(number: int, frame: object) -> NoReturn:
            print("leaving")
            raise SystemExit(3)

        signal.signal(signal.SIGTERM, leave)
        print("ready")
        time.sleep(1000)

    @task
    def keep_ledger() -> None:
        """Goes on at SIGTERM, as plain Python code does."""
        write_ledger()

    @task
    def polite_ledger() -> None:
        """Goes at SIGTERM."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(3))
        write_ledger()

    @task
    def leave_group() -> None:
        """Has a child in a session of its own, which nobody would end."""
        child = subprocess.Popen(["setsid", "bash", "-c", "trap '' TERM; while true; do sleep 0.1; done"])
        with Path(Variable.get("ledger")).with_name("pids").open("a") as pids:
            pids.write(f"{child.pid}\n")
        write_ledger()

    @task
    def blocked() -> None:
        """Waits for an answer in one thread and lives on in another."""
        threading.Thread(target=write_ledger, daemon=True).start()
        time.sleep(0.3)
        print("WRONG", Variable.get("v1", default="DEFAULT"))

    hello()
    name_machine()
    crash_in_c()
    die_later()
    chatter()
    read_much()
    keep_ledger()
    polite_ledger()
    leave_group()
    blocked()
    fail()
    die()
    show_environment()
    tick()
    leave_behind()
    read_with_default()
    read_secret()
    print_while_reading()
    stubborn()
    polite()
    BashOperator(task_id="bash", bash_command="echo from bash $((6 * 7)); echo last")
