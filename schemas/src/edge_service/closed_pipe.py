"""The end of a command whose output nobody reads any more, as in `edge-relay workers list | head -1`."""

import os
import sys
from collections.abc import Callable


def run_until_closed(command: Callable[[], int]) -> int:
    """Run a command that prints; returns its exit status, or 0 if the reader of its output has left.

    Output is flushed here: the interpreter would otherwise report the closed pipe at its own end.
    """
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
