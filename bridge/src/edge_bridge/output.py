"""Standard output of our own `airflow` commands."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def others_to_stderr() -> Iterator[TextIO]:
    """Standard output for the command only: Airflow logs there too, and piped output must be the command's alone."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            yield out
        finally:
            sys.stdout.flush()
            with suppress(BrokenPipeError):  # no process reads the output any more
                out.flush()
            os.dup2(out.fileno(), 1)
