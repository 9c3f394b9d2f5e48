"""Callbacks, as a deadline names them."""
# ruff: noqa: T201 (what they print is the point)

import os
import signal
from typing import Any

from airflow.sdk import Variable


def note(text: str, context: dict[str, Any]) -> None:
    print("noted", text, context["dag_run"]["run_id"], Variable.get("v1", default="DEFAULT"))


def fail(text: str) -> None:
    msg = f"cannot note {text}"
    raise RuntimeError(msg)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
