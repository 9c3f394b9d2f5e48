"""Ends user code that can no longer end itself: after a crash in C, and beyond its time limit in a call into C.

Python runs signal handlers between its own instructions only. So a handler for SIGSEGV never runs after a real
segmentation fault, which then repeats for ever, and the SIGALRM of a time limit does nothing while C code holds the
interpreter. Both are left to the C code of `faulthandler`, which also writes where the code was to the task's log.
"""

import faulthandler
import importlib
import signal
from collections.abc import Callable
from functools import wraps
from typing import Any

GRACE_S = 30.0
"""How long after its `execution_timeout` a task may be in one call into C; the exception is raised after that call."""
_STDERR = 2


def install() -> None:
    """Change the SDK in this process, for the user code that it forks. Parts that an SDK does not have are left out."""
    runner = importlib.import_module("airflow.sdk.execution_time.task_runner")
    _wrap(runner, "run", _die_of_crashes)
    limit = getattr(importlib.import_module("airflow.sdk.execution_time.timeout"), "TimeoutPosix", None)
    _wrap(limit, "__enter__", _start_watch)
    _wrap(limit, "handle_timeout", _stop_watch)
    _wrap(limit, "__exit__", _stop_watch)


def _wrap(owner: object, name: str, before: Callable[[object], None]) -> None:
    """Call `before` with the first argument of a function or method, each time before it runs."""
    original = getattr(owner, name, None)
    if original is None:
        return

    @wraps(original)
    def wrapped(first: object, *arguments: Any, **named: Any) -> Any:
        before(first)
        return original(first, *arguments, **named)

    setattr(owner, name, wrapped)


def _die_of_crashes(_: object) -> None:
    """Airflow's import of the DAG has left a handler for SIGSEGV behind."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    faulthandler.enable(_STDERR, all_threads=False)


def _start_watch(limit: object) -> None:
    seconds = float(getattr(limit, "seconds", 0))
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True, file=_STDERR)


def _stop_watch(_: object) -> None:
    faulthandler.cancel_dump_traceback_later()
