"""Repeats calls while the relay is away, and says so."""

import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from edge_relay.cli.output import EXIT_NO_ANSWER, Failure, printable

PATIENCE_S = 15 * 60.0
"""How long a relay may be away while a job is followed; the job does not depend on it."""
TOLD_AFTER_S = 5.0
"""What takes no longer needs no explanation."""

T = TypeVar("T")


def tell(text: str) -> None:
    """Print a line on standard error, beside the output of the job."""
    print(f"edge-relay: {printable(text)}", file=sys.stderr, flush=True)


def patiently(call: Callable[[], T]) -> T:
    """The answer of a call that may be repeated, also while the relay is away.

    Raises:
        Failure: The relay refused it, or has been away for too long.
    """
    began, pause_s, told = monotonic(), 0.5, False
    while True:
        try:
            return call()
        except Failure as failure:
            away_s = monotonic() - began
            if failure.status != EXIT_NO_ANSWER or away_s >= PATIENCE_S:
                raise
            if away_s >= TOLD_AFTER_S and not told:
                told = True
                tell(f"{failure} It is tried again for {PATIENCE_S / 60:.0f} minutes")
            sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)
