"""The call path of a job in the worker: how often a reader who follows it has to change the file.

The path starts at the entry function and goes depth-first through the functions of the package that each function calls
(see `calls`), in the order of the text. Each function is opened once, at the first call that leads to it. It is one
change of file if that call is in another file. Returns, calls of functions that are already open and functions of other
packages do not count. The module `log` is left out: a log line is not a step of the path.
The path ends at a queue, an event or a listener: the function behind it counts only if a function on the path names it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from structure.bounds import HOPS
from structure.calls import callees
from structure.scopes import Key, index
from structure.sources import SOURCE, Module, packages
from structure.tables import Measure, Table
from structure.values import Values

ENTRY = "JobRunner.accept"
"""Where a granted job begins at the worker."""
_LEFT_OUT = "log"


class NoEntry(Exception):
    """The entry function does not exist, or its name fits several: give its module, `module:name`."""


@dataclass(frozen=True)
class Step:
    """A function that is opened.

    Attributes:
        depth: How many calls lie between it and the entry.
        changes_file: Whether the call that leads to it is in another file.
    """

    key: Key
    depth: int
    changes_file: bool


def path(modules: Sequence[Module], entry: str = ENTRY) -> list[Step]:
    """All functions on the path, in the order in which they are opened; the entry is the first.

    Raises:
        NoEntry: There is no such function, or there are several.
    """
    start = _find(modules, entry)
    package = start[0].partition(".")[0]
    declared = index([module for module in modules if module.part == SOURCE and module.package == package])
    values = Values(declared)
    steps: list[Step] = []
    opened: set[Key] = set()
    todo = [Step(start, 0, changes_file=False)]
    while todo:
        step = todo.pop()
        if step.key in opened:
            continue
        opened.add(step.key)
        steps.append(step)
        inner = [key for key in callees(values, declared.functions[step.key]) if not _is_left_out(key)]
        todo += [Step(key, step.depth + 1, key[0] != step.key[0]) for key in reversed(inner)]
    return steps


def hops(modules: Sequence[Module], entry: str = ENTRY) -> Measure:
    """Changes of file on the path from the entry, by the file that they lead to."""
    try:
        steps = path(modules, entry)
    except NoEntry as error:
        return Measure([Table("Call path of a job", ("",), [], str(error))], {HOPS: None})
    changes = Counter(step.key[0] for step in steps if step.changes_file)
    files = {step.key[0] for step in steps}
    note = "Functions reached from the entry, each opened once; a first call from another file is a change of file."
    return Measure(
        [
            Table(
                "Call path of a job",
                ("entry", "changes of file", "files", "functions"),
                [(":".join(steps[0].key), changes.total(), len(files), len(steps))],
                note,
            ),
            Table("Changes of file by the module they lead to", ("module", "changes"), changes.most_common()),
        ],
        {HOPS: changes.total()},
    )


def listing(steps: Sequence[Step]) -> str:
    """The path, one function a line; `>` marks a change of file."""
    return "".join(f"{'  ' * step.depth}{'> ' if step.changes_file else ''}{':'.join(step.key)}\n" for step in steps)


def _find(modules: Sequence[Module], entry: str) -> Key:
    where, _, name = entry.rpartition(":")
    found = [
        key
        for package in packages([module for module in modules if module.part == SOURCE]).values()
        for key in index(package).functions
        if key[1] == name and where in {"", key[0]}
    ]
    if len(found) != 1:
        candidates = ", ".join(":".join(key) for key in found) or "none"
        raise NoEntry(f"The entry {entry} must name one function. Found: {candidates}.")
    return found[0]


def _is_left_out(key: Key) -> bool:
    return key[0].rpartition(".")[2] == _LEFT_OUT
