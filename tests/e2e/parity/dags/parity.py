"""Odd tasks, each once for the local executor and once for the edge: two DAGs with the same tasks for each group.

A function below is a case; `CASES` is the table. `test_odd_tasks.py` compares what became of the two runs.
"""
# ruff: noqa: T201, BLE001  # tasks print, and catch everything

import asyncio
import ctypes
import datetime as dt
import decimal
import locale
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import Asset, BaseHook, BaseOperator, Variable, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.log import mask_secret

QUEUE = "parity"
ACTIVE = 4
NOTHING: Mapping[str, Any] = MappingProxyType({})
ODD = "äöü 鍵 🐍 e\u0301 \u202eright to left\u202c \u0085 \u2028 \u00a0|"
NOW = dt.timedelta(0)
log = logging.getLogger("odd.logger")


@dataclass(frozen=True)
class Better:
    """Why the edge differs, and a text by which it can be seen.

    Attributes:
        reason: What is better.
        edge: Only what is found at the edge has this text.
        centre: Only what is found at the centre has this text.
    """

    reason: str
    edge: str = ""
    centre: str = ""


@dataclass(frozen=True)
class Case:
    """One odd thing to do.

    Attributes:
        name: Its tasks' ids are this name, or begin with it and a double underscore.
        build: Adds its tasks to the current DAG.
        soak: Whether only `make soak` runs it.
        better: What is better at the edge, by what is compared: `end`, `xcom`, `log`, `more`.
    """

    name: str
    build: Callable[[], object]
    soak: bool
    better: Mapping[str, Better] = field(default_factory=dict)


NAMES_THE_SIGNAL = Better("The log names the signal, and does not only guess that memory ran out.", edge="by SIGKILL")
SHOWS_THE_STACK = Better("The log shows where the process was when it crashed.", edge="Fatal Python error: Aborted")
SHOWS_THE_CRASH = Better(
    "Airflow's own handler lets such a task spin for ever; at the edge the crash ends the task, and the log shows it.",
    edge="Fatal Python error: Segmentation fault",
    centre="SIGKILL",
)
RESTORES_HANDLERS = Better(
    "Handlers that Airflow's import leaves behind are put back, so that a crash and SIGQUIT end a task.",
    centre="sigsegv_handler",
)
HIDES_THE_CENTRE = Better("The secrets of the centre's services are not passed to tasks.", centre="JWT_SECRET")
CASES: list[Case] = []


def case(
    *, soak: bool = True, better: Mapping[str, Better] = NOTHING, **options: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make a case of a function that a task runs. The options are the task's."""

    def add(run: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append(Case(run.__name__, task(**options)(run), soak, better))
        return run

    return add


def flow(*, soak: bool = True) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Make a case of a function that adds tasks to the current DAG."""

    def add(build: Callable[[], object]) -> Callable[[], object]:
        CASES.append(Case(build.__name__, build, soak))
        return build

    return add


# What a task returns or pushes.


@case()
def value_none() -> None:
    return None


@case()
def value_deep() -> Any:
    value: Any = "core"
    for level in range(40):
        value = {f"level {level}": [value]}
    return value


@case(soak=False, multiple_outputs=False)
def value_unicode() -> dict[str, str]:
    return {ODD: ODD}


@case()
def value_nul() -> str:
    return "before\x00after"


@case(soak=False)
def value_lone_surrogate() -> str:
    return "before\ud800after"


@case(soak=False)
def value_not_a_number() -> list[float]:
    return [float("nan"), float("inf"), float("-inf"), -0.0]


@case()
def value_bytes() -> bytes:
    return bytes(range(256))


@case(show_return_value_in_logs=False)
def value_of_a_mebibyte() -> str:
    return "é" * (1 << 19)


@case()
def value_times() -> list[Any]:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=45))
    moment = dt.datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=zone)
    return [moment, moment.date(), dt.timedelta(days=-1, microseconds=1)]


@case()
def value_collections() -> list[Any]:
    return [{"one"}, frozenset({2}), (3, (4,)), []]


class Unknown:
    """Nothing that Airflow can store."""

    def __repr__(self) -> str:
        return "<Unknown>"


@case(soak=False)
def value_unknown_object() -> Any:
    return Unknown()


@case()
def value_numbers() -> list[Any]:
    return [2**53 + 1, decimal.Decimal("0.1000"), 1e308, True]


@case()
def value_huge_integer() -> int:
    return 2**200


@case()
def value_uuid() -> Any:
    return uuid.UUID(int=7)


@case()
def value_generator() -> Iterator[int]:
    return (number for number in range(3))


@case()
def value_circular() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@case(multiple_outputs=False)
def value_with_odd_keys() -> dict[Any, str]:
    return {1: "one", None: "nothing", "": "empty"}


@case(soak=False, multiple_outputs=True)
def outputs_with_odd_keys() -> dict[str, Any]:
    return {"a/b": 1, " ": 3, "%2f": None, ODD: ODD, "k" * 300: 5}


@case(multiple_outputs=True)
def outputs_with_a_path_as_a_key() -> dict[str, Any]:
    return {"..": 1, "../../health": 2}


@case(multiple_outputs=True)
def outputs_with_an_empty_key() -> dict[str, int]:
    return {"": 1}


@case(multiple_outputs=True)
def outputs_that_are_none() -> list[int]:
    return [1, 2]


@case(multiple_outputs=True)
def outputs_with_numbers_as_keys() -> dict[Any, int]:
    return {1: 1}


@case()
def pushes_the_key_of_its_result() -> str:
    get_current_context()["ti"].xcom_push("return_value", "pushed")
    return "returned"


@case()
def pushes_too_long_a_key() -> None:
    get_current_context()["ti"].xcom_push("k" * 513, 1)


@case()
def pushes_often() -> None:
    for number in range(15):
        get_current_context()["ti"].xcom_push(f"key {number % 3}", number)


# Mapped tasks.


@flow(soak=False)
def mapped_over_odd_values() -> object:
    @task(task_id="mapped_over_odd_values", map_index_template="{{ task.op_kwargs['value'] }}")
    def show(value: Any) -> str:
        return repr(value)

    return show.expand(value=[None, "", "a/b", {"k": [1]}, ODD, "long " * 100])


@flow()
def mapped_over_nothing() -> object:
    @task(task_id="mapped_over_nothing")
    def show(value: Any) -> str:
        return repr(value)

    return show.expand(value=[])


@flow()
def mapped_and_reduced() -> object:
    @task(task_id="mapped_and_reduced__each")
    def invert(value: int) -> float:
        return 1 / value

    @task(task_id="mapped_and_reduced__all", trigger_rule="all_done")
    def collect(values: Any) -> list[float]:
        return list(values)

    return collect(invert.expand(value=[1, 0, 4]))


# What a task writes to its standard output and error output.


@case()
def output_without_newline() -> None:
    sys.stdout.write("no end")


@case()
def output_of_empty_lines() -> None:
    print("\n\nbetween\n\n")


@case(soak=False)
def output_of_a_progress_bar() -> None:
    for percent in range(0, 101, 25):
        sys.stdout.write(f"\r{percent} %")
        sys.stdout.flush()
    print("\r\nend of the DOS line\r\n\r", end="")


@case()
def output_of_escapes_and_nul() -> None:
    print("\x1b[31mred\x1b[0m \x00 \x07 \x1b]0;title\x07 \x7f \x9b1m")


@case(soak=False)
def output_of_bytes() -> None:
    sys.stdout.buffer.write(bytes(range(256)) + b"\n")
    sys.stdout.buffer.write("é".encode()[:1])
    sys.stdout.buffer.flush()
    sys.stdout.buffer.write("é".encode()[1:] + b" whole\n")


@case()
def output_of_unicode() -> None:
    print(ODD)


@case()
def output_of_a_surrogate() -> None:
    print("before\ud800after")


@case()
def output_of_a_long_line() -> None:
    print("x" * 300_000)


@case()
def output_of_many_lines() -> None:
    for number in range(2000):
        print(f"line {number}")


@case()
def output_past_python() -> None:
    os.write(1, b"descriptor 1\n")
    os.write(2, b"descriptor 2\n")


@case(soak=False)
def output_of_a_subprocess() -> None:
    subprocess.run(["sh", "-c", "echo out; echo err >&2; printf 'no end'"], check=True)


@case()
def output_of_threads() -> None:
    # One after the other: the order is compared.
    def write(number: int) -> None:
        print(f"print {number}")
        log.info("log %d", number)

    for number in range(3):
        thread = threading.Thread(target=write, args=(number,))
        thread.start()
        thread.join()


@case()
def output_like_a_log_record() -> None:
    print('{"event": "not a record", "level": "critical", "timestamp": "2000-01-01T00:00:00Z", "logger": "fake"}')
    print("::group::folded")
    print("::endgroup::")


@case()
def output_that_is_closed() -> None:
    sys.stdout.close()
    print("never")


@case()
def output_whose_descriptor_is_closed() -> str:
    os.close(1)
    try:
        print("never", flush=True)
    except OSError as error:
        return str(error)
    return "no error"


@case()
def output_is_masked() -> str:
    mask_secret("a secret of the parity suite")
    print("here: a secret of the parity suite!")
    log.warning("%s", {"text": "a secret of the parity suite", "password": "hush"})
    return "a secret of the parity suite"


# What a task logs.


@case(soak=False)
def logs_at_each_level() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL, 25):
        log.log(level, "level %d", level)


@case()
def logs_an_exception_with_extra() -> None:
    try:
        raise ValueError(ODD)
    except ValueError:
        log.exception("caught", extra={"number": 1, "unknown": Unknown(), "text": ODD})


@case()
def logs_a_bad_format() -> None:
    log.info("%d and %s", "text")  # noqa: PLE1206  # this is the case


@case()
def logs_with_structlog() -> None:
    structlog.get_logger("odd.structlog").warning("an event", unknown=Unknown(), data=b"\xff", nested={"a": [1, None]})


@case()
def logs_under_odd_names() -> None:
    for name in ("", "a..b", "name with blanks", ODD, "airflow.task", "task.stdout"):
        logging.getLogger(name).warning("from %r", name)


@case()
def logs_lines_and_odd_text() -> None:
    log.info("first\nsecond\r\nthird\n")
    log.info("%s \x00 \x1b[1m \ud800", ODD)
    log.info("")


@case()
def warns() -> None:
    warnings.warn("an odd warning", UserWarning, stacklevel=1)
    warnings.warn("an old function", DeprecationWarning, stacklevel=1)


@case()
def logs_with_a_broken_handler() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("a broken handler")

    log.addHandler(Broken())
    log.warning("through a broken handler")


# How a task ends.


@case(soak=False)
def exits_with_0() -> None:
    sys.exit(0)


@case()
def exits_with_3() -> None:
    sys.exit(3)


@case(soak=False)
def exits_with_text() -> None:
    sys.exit("the reason")


@case()
def leaves_at_once_with_0() -> None:
    print("last words", flush=True)
    os._exit(0)


@case(soak=False)
def leaves_at_once_with_7() -> None:
    print("last words", flush=True)
    os._exit(7)


@case(soak=False, better={"log": NAMES_THE_SIGNAL})
def is_killed() -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@case()
def is_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3)


@case()
def is_interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(3)


@case()
def is_hung_up() -> None:
    # What starts Airflow may have it ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(3)


@case(better={"log": SHOWS_THE_STACK})
def aborts() -> None:
    os.abort()


@case(soak=False, better={"log": SHOWS_THE_CRASH})
def crashes_in_c() -> None:
    # At the centre only this watchdog ends the task.
    subprocess.Popen(["sh", "-c", f"sleep 5; kill -KILL {os.getpid()}"], stdout=subprocess.DEVNULL)
    ctypes.string_at(0)


@case()
def recurses() -> None:
    recurses()


@case()
def runs_out_of_memory() -> None:
    bytearray(1 << 60)


@case()
def raises_no_exception() -> None:
    class Odd(BaseException):
        pass

    raise Odd("not an Exception")


@case()
def raises_a_mebibyte() -> None:
    raise ValueError("x" * (1 << 20))


@case()
def raises_what_cannot_be_pickled() -> None:
    raise ValueError(Unknown(), open)


@case()
def raises_what_cannot_be_shown() -> None:
    class Hidden(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    raise Hidden


@case()
def raises_a_group_with_causes() -> None:
    try:
        raise KeyError("cause")
    except KeyError as error:
        group = ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [OSError(2, "two")])])
        raise group from error


@case()
def raises_odd_text() -> None:
    raise ValueError(f"{ODD} \x00 \x1b[31m \ud800 \r\n next")


@case()
def imports_what_is_missing() -> None:
    __import__("no_such_module_anywhere")


@case()
def skips() -> None:
    raise AirflowSkipException(ODD)


@case(retries=2, retry_delay=NOW)
def fails_for_good() -> None:
    raise AirflowFailException(ODD)


@case(retries=1, retry_delay=NOW)
def fails_once() -> int:
    number = int(get_current_context()["ti"].try_number)
    if number == 1:
        raise ValueError("the first try")
    return number


@case(retries=1, retry_delay=NOW, better={"log": NAMES_THE_SIGNAL})
def is_killed_once() -> int:
    number = int(get_current_context()["ti"].try_number)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@case(soak=False, execution_timeout=dt.timedelta(seconds=1))
def takes_too_long() -> None:
    time.sleep(30)


@case(execution_timeout=dt.timedelta(seconds=1))
def takes_too_long_and_catches_it() -> str:
    try:
        time.sleep(30)
    except BaseException as error:
        return type(error).__name__
    return "no time-out"


@case(execution_timeout=dt.timedelta(seconds=1))
def takes_too_long_and_ignores_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(30)


@case()
def leaves_a_thread() -> str:
    # Longer than the end of a task may take: whether it is waited for must not depend on the machine.
    threading.Timer(10, print, ["late"]).start()
    return "done"


@case()
def uses_processes() -> Any:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(os.getppid()))
    child.start()
    child.join()
    return results.get() == os.getpid()


@case()
def uses_a_loop() -> str:
    async def answer() -> str:
        await asyncio.sleep(0.01)
        return "from a loop"

    return asyncio.run(answer())


# What a task finds around itself.


@case(soak=False)
def reads_its_standard_input() -> str:
    return sys.stdin.read()


@case()
def lives_in_a_folder_that_goes() -> None:
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    Path(gone).rmdir()
    Path("file").write_text("never")


@case(soak=False)
def sees_its_process() -> list[str]:
    umask = os.umask(0)
    os.umask(umask)
    return [
        f"umask {umask:o}",
        f"files {resource.getrlimit(resource.RLIMIT_NOFILE)}",
        f"core {resource.getrlimit(resource.RLIMIT_CORE)}",
        f"nice {os.nice(0)}",
        f"locale {locale.getlocale()} {locale.getpreferredencoding()}",
        f"zone {time.tzname} {time.timezone}",
        f"encodings {sys.getdefaultencoding()} {sys.getfilesystemencoding()} {sys.stdout.encoding} {sys.stdout.errors}",
        f"output {sys.stdout.isatty()} {sys.stdout.line_buffering} {os.isatty(1)}",
        f"limits {sys.getrecursionlimit()} {sys.getswitchinterval()} {threading.active_count()}",
        f"signals blocked {signal.pthread_sigmask(signal.SIG_BLOCK, [])}",
        f"user {os.getuid()} {os.geteuid()}",
        f"main {threading.current_thread() is threading.main_thread()} {multiprocessing.current_process().daemon}",
        f"python {sys.version} {sys.executable} {sys.flags}",
    ]


@case(show_return_value_in_logs=False, better={"xcom": RESTORES_HANDLERS})
def sees_handlers_of_signals() -> list[str]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGQUIT, signal.SIGSEGV, signal.SIGTERM)}
    return [f"{number.name} {getattr(handler, '__name__', handler)}" for number, handler in handlers.items()]


@case(show_return_value_in_logs=False, better={"xcom": HIDES_THE_CENTRE})
def sees_options_of_airflow() -> list[str]:
    return sorted(name for name in os.environ if name.startswith("AIRFLOW__"))


@case()
def sees_its_context() -> dict[str, str]:
    context = get_current_context()
    ti: Any = context["ti"]
    return {
        "keys": " ".join(sorted(context)),
        "params": repr(context["params"]),
        "conf": repr(context["dag_run"].conf),
        "ti": repr((ti.try_number, ti.map_index, ti.max_tries, ti.is_mapped)),
    }


@case()
def reads_a_missing_variable() -> None:
    print(Variable.get("no such variable", default=ODD))
    Variable.get("no such variable")


@case()
def reads_a_missing_connection() -> None:
    BaseHook.get_connection("no_such_connection")


@case(soak=False)
def reads_a_connection() -> list[Any]:
    found: Any = BaseHook.get_connection("parity_connection")
    print(found.password, found.extra)
    return [found.host, found.port, found.schema, found.login, sorted(found.extra_dejson), found.get_uri()]


@flow(soak=False)
def templates_of_odd_text() -> object:
    @task(task_id="templates_of_odd_text")
    def show(*values: Any) -> list[Any]:
        return list(values)

    return show(ODD, "{{ params.odd }}", "{{ '%c' % 0 }}", "{% raw %}{{ no }}{% endraw %}", "{{ [1, none] | tojson }}")


@flow()
def templates_that_are_huge() -> object:
    @task(task_id="templates_that_are_huge")
    def measure(value: str) -> int:
        return len(value)

    return measure("{{ 'x' * 200000 }}")


@flow()
def templates_of_what_is_undefined() -> object:
    @task(task_id="templates_of_what_is_undefined")
    def show(value: str) -> str:
        return value

    return show("{{ nothing.at.all }}")


@case(soak=False, outlets=[Asset("parity_asset")])
def emits_an_asset_event() -> None:
    get_current_context()["outlet_events"][Asset("parity_asset")].extra = {ODD: [1, None, {"deep": ODD}]}


@case(outlets=[Asset("parity_asset")])
def emits_an_asset_event_that_cannot_be_stored() -> None:
    unknown: Any = Unknown()
    get_current_context()["outlet_events"][Asset("parity_asset")].extra = {"unknown": unknown}


# What Airflow makes of several tasks.


class Defers(BaseOperator):
    """Leaves its slot for a moment."""

    def execute(self, context: Any) -> None:
        """Before."""
        self.defer(trigger=TimeDeltaTrigger(NOW), method_name="resume", kwargs={"kept": ODD})

    def resume(self, context: Any, event: Any = None, kept: str = "") -> str:
        """After."""
        return kept


@flow()
def defers() -> object:
    return Defers(task_id="defers")


@flow()
def defers_to_what_is_missing() -> object:
    class DefersWrongly(Defers):
        def execute(self, context: Any) -> None:
            self.defer(trigger=TimeDeltaTrigger(NOW), method_name="no_such_method")

    return DefersWrongly(task_id="defers_to_what_is_missing")


@flow()
def is_rescheduled() -> object:
    @task.sensor(task_id="is_rescheduled", mode="reschedule", poke_interval=1, timeout=60)
    def poke() -> bool:
        context = get_current_context()
        return context["ti"].get_first_reschedule_date(context) is not None

    return poke()


@flow(soak=False)
def branches() -> object:
    @task.branch(task_id="branches")
    def choose() -> str:
        return "branches__taken"

    join = EmptyOperator(task_id="branches__join", trigger_rule="none_failed_min_one_success")
    return (
        choose() >> [BashOperator(task_id=f"branches__{way}", bash_command="true") for way in ("taken", "not")] >> join
    )


@flow()
def branches_to_what_is_missing() -> object:
    @task.branch(task_id="branches_to_what_is_missing")
    def choose() -> str:
        return "no_such_task"

    return choose()


@flow()
def short_circuits() -> object:
    @task.short_circuit(task_id="short_circuits")
    def stop() -> bool:
        return False

    return stop() >> BashOperator(task_id="short_circuits__after", bash_command="true")


@flow()
def rules_behind_a_failure() -> object:
    failing = BashOperator(task_id="rules_behind_a_failure", bash_command="echo failing >&2; exit 5")
    rules = ("all_success", "all_done", "one_failed")
    return failing >> [
        BashOperator(task_id=f"rules_behind_a_failure__{rule}", bash_command="true", trigger_rule=rule)
        for rule in rules
    ]


@flow()
def skips_in_bash() -> object:
    return BashOperator(task_id="skips_in_bash", bash_command="printf 'no end'; exit 99")


@flow()
def prints_odd_text_in_bash() -> object:
    return BashOperator(task_id="prints_odd_text_in_bash", bash_command=r"printf '\xff\x00 \r\n\033[1m äöü\n'")


def build(group: str, soak: bool, where: str, default_args: dict[str, Any]) -> None:
    """The DAG of a group for one of the executors."""

    @dag(
        dag_id=f"{group}_{where}",
        schedule=None,
        catchup=False,
        default_args=default_args,
        max_active_tasks=ACTIVE,
        params={"odd": ODD, "number": 1},
    )
    def parity() -> None:
        for each in CASES:
            if each.soak == soak:
                each.build()

    parity()


for group, soak in (("parity", False), ("parity_soak", True)):
    build(group, soak, "centre", {})
    build(group, soak, "edge", {"executor": "edge", "queue": QUEUE})
