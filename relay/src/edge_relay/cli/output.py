"""What commands print: columns for people, JSON for programs, and failures that say what to do."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_ANSWER = 3


class Failure(Exception):
    """A command that could not do its work.

    Args:
        text: What is wrong, and what to do about it.
        status: The exit status.
    """

    def __init__(self, text: str, status: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.status = status


def explain(failure: Failure) -> None:
    """Say on standard error why the command failed."""
    print(f"edge-relay: {printable(str(failure), keep=chr(10))}", file=sys.stderr)


def say(text: str) -> None:
    """Print a line for people."""
    print(printable(text, keep="\n"), flush=True)


def done(options: Namespace, text: str, **facts: str) -> None:
    """Say what was done, in words or as JSON."""
    if options.json:
        print_json(facts)
    else:
        say(text)


def print_json(value: Any) -> None:
    """Print for programs; everything but ASCII is escaped, so it is safe on a terminal too."""
    print(json.dumps(value, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print what is known of one thing, a line for each fact."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name.ljust(width)}  {printable(value)}")


def printable(text: str, *, keep: str = "") -> str:
    """The text without what could steer a terminal: names come from workers and other operators."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def span(seconds: float) -> str:
    """A length of time in the largest unit that gives a whole number."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
