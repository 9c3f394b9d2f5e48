"""What tasks wrote down about themselves: `dags/faults.py` appends a line for each event."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, order=True)
class Instance:
    """A task instance, whatever its tries."""

    dag: str
    run: str
    task: str
    map_index: int = -1

    def __str__(self) -> str:
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


@dataclass(frozen=True)
class Line:
    """One event.

    Attributes:
        event: `begin`, `alive`, `read` and `term` on the way; `end` or `raise` last.
        time: Of the wall clock, which all tasks of a test share.
        more: What else the task had to say.
    """

    instance: Instance
    attempt: int
    pid: int
    event: str
    time: float
    more: dict[str, Any]


@dataclass(frozen=True)
class Life:
    """One process of user code: what it wrote, in order."""

    instance: Instance
    attempt: int
    pid: int
    lines: tuple[Line, ...]

    @property
    def began(self) -> float:
        """Its first sign of life."""
        return self.lines[0].time

    @property
    def last_seen(self) -> float:
        """Its last one."""
        return self.lines[-1].time

    @property
    def events(self) -> tuple[str, ...]:
        """All that it wrote but `alive`."""
        return tuple(line.event for line in self.lines if line.event != "alive")

    def times(self, event: str) -> list[float]:
        """When it wrote an event."""
        return [line.time for line in self.lines if line.event == event]


class Ledger:
    """A file that tasks append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def conf(self, **more: Any) -> dict[str, Any]:
        """What a run's `conf` must hold."""
        return {"ledger": str(self.path), **more}

    def lines(self, run: str | None = None) -> list[Line]:
        """All whole lines, of one run or of all, in the order in which they were written."""
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_text().rpartition("\n")
        found = [parse(text) for text in whole.splitlines()]
        return [line for line in found if run in (None, line.instance.run)]

    def lives(self, run: str | None = None) -> list[Life]:
        """The processes that wrote them, in the order of their first lines."""
        return lives(self.lines(run))


def lives(lines: Iterable[Line]) -> list[Life]:
    """Lines by the process that wrote them."""
    found: dict[tuple[Instance, int, int], list[Line]] = defaultdict(list)
    for line in lines:
        found[line.instance, line.attempt, line.pid].append(line)
    return [Life(*key, tuple(each)) for key, each in found.items()]


def parse(text: str | bytes) -> Line:
    """One line of the file."""
    fields = json.loads(text)
    instance = Instance(*(fields.pop(name) for name in ("dag", "run", "task", "map_index")))
    attempt, pid, event, time = (fields.pop(name) for name in ("try", "pid", "event", "time"))
    return Line(instance, attempt, pid, event, time, more=fields)
