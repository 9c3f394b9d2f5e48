"""The output of commands: columns for people, JSON for programs, and errors with advice."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TextIO

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_ANSWER = 3
EXIT_INTERRUPTED = 130
"""As a shell has it for a program that Ctrl-C has ended."""


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
    """Print to standard error why the command failed."""
    print(f"edge-relay: {printable(str(failure), keep=chr(10))}", file=sys.stderr)


def print_line(text: str) -> None:
    """Print a line for people."""
    print(printable(text, keep="\n"), flush=True)


def print_done(options: Namespace, text: str, **facts: str) -> None:
    """Print what was done, as text or as JSON."""
    if options.json:
        print_json(facts)
    else:
        print_line(text)


def print_json(value: object) -> None:
    """Print for programs; everything except ASCII is escaped, so it is safe on a terminal too."""
    print(json.dumps(value, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print the facts about one thing, one on each line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name.ljust(width)}  {printable(value)}")


def printable(text: str, *, keep: str = "") -> str:
    """The text without control characters for terminals: names come from workers and other operators."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def encodable(text: str, stream: TextIO) -> str:
    """The text with what the stream's encoding lacks as escapes: a log may hold anything, such as half a character."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def span(seconds: float) -> str:
    """A duration in the largest unit that gives an integer."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
