"""A line on standard error that says that a command still works."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

SHOWN_AFTER_S = 1.0
_EVERY_S = 0.2


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show the text and the seconds passed while inside, on a terminal only and only for what takes long."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    shower = threading.Thread(target=_show, args=(text, done), name="progress", daemon=True)
    shower.start()
    try:
        yield
    finally:
        done.set()
        shower.join()


def _show(text: str, done: threading.Event) -> None:
    began = monotonic()
    if done.wait(SHOWN_AFTER_S):
        return
    while True:
        print(f"\r{text} … {monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
        if done.wait(_EVERY_S):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            return
