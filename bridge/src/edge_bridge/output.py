"""The standard output of `airflow edge-relay …`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def others_to_stderr() -> Iterator[TextIO]:
    """Standard output for what a command prints: Airflow logs there too, and piped output must be JSON only."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            yield out
        finally:
            sys.stdout.flush()
            with suppress(BrokenPipeError):  # nobody reads it any more
                out.flush()
            os.dup2(out.fileno(), 1)
