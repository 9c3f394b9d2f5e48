"""The text of the demo's report: each task, each check, and the ends of the logs after a failure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

TAIL_LINES = 15


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What must be true.
        passed: None if the check was skipped, which counts as passed and is reported.
        details: What was found.
    """

    name: str
    passed: bool | None
    details: str = ""

    def __str__(self) -> str:
        word = {True: "ok     ", False: "FAILED ", None: "skipped"}[self.passed]
        return f"  {word} {self.name}" + (f": {self.details}" if self.details else "")


def task_table(instances: Iterable[dict[str, Any]]) -> str:
    """A line for each task instance, in the order of their start."""
    ordered = sorted(instances, key=lambda ti: (ti["start_date"] or "~", ti["map_index"]))
    lines = [f"  {'task':<12} {'try':>3}  {'state':<10} {'ran on':<28} {'queued→running':>14} {'total':>8}"]
    for ti in ordered:
        name = ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else "")
        waited = _seconds(ti["queued_when"], ti["start_date"])
        total = _seconds(ti["queued_when"], ti["end_date"])
        where = ti["hostname"] or "-"
        lines.append(
            f"  {name:<12} {ti['try_number']:>3}  {ti['state'] or '-':<10} {where:<28} {waited:>14} {total:>8}"
        )
    return "\n".join(lines)


def log_excerpt(lines: Iterable[dict[str, Any]], *, most: int = 8) -> str:
    """The first lines of a log that the task's own code printed, at most `most`."""
    own = [line for line in lines if str(line.get("logger", "")).startswith("task.std")]
    return "\n".join(f"  {_clock(line.get('timestamp'))}  {line['event']}" for line in own[:most])


def log_tails(logs: Iterable[Path]) -> str:
    """The last lines of each log that is not empty."""
    parts = []
    for log in logs:
        if log.exists() and (text := log.read_text(errors="replace").rstrip()):
            end = "\n".join(f"    {line[:400]}" for line in text.splitlines()[-TAIL_LINES:])
            parts.append(f"  {log}\n{end}")
    return "\n".join(parts)


def _seconds(start: str | None, end: str | None) -> str:
    if not start or not end:
        return "-"
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.2f} s"


def _clock(stamp: str | None) -> str:
    return datetime.fromisoformat(stamp).strftime("%H:%M:%S.%f")[:-3] if stamp else " " * 12
