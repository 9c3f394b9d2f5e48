"""Follows a job to its end: prints its log while the job runs."""

import json
import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from edge_relay.cli.output import EXIT_FAILED, EXIT_NO_ANSWER, Failure, encodable, printable
from edge_relay.cli.submit.calls import LONGEST_WAIT_S, ProducerCalls
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.producers.submissions import JobStatus

PATIENCE_S = 15 * 60.0
"""How long a relay may be away while a job is followed; the job does not depend on it."""
_LOG_WAIT_S = 10.0
_TOLD_AFTER_S = 5.0
_LONGEST_LINE_BYTES = 8 << 20
"""A worker writes no longer ones; of another one, the parts are printed as lines."""

T = TypeVar("T")


class Follower:
    """Prints what a job prints, and tells on standard error what it waits for."""

    def __init__(self, calls: ProducerCalls, job: str) -> None:
        self._calls = calls
        self._job = job
        self._offset = 0
        self._rest = b""
        self._told: str | None = None
        self._began = monotonic()

    def until_ended(self) -> JobStatus:
        """Print the log until the job has ended.

        Raises:
            Failure: The relay refuses to answer, or has been away for too long.
        """
        while True:
            status = patiently(lambda: self._calls.status(self._job))
            self._tell(status)
            if status.state is JobState.ENDED:
                while self._print_more(wait_s=0.0):
                    pass
                self._print_line(self._rest)
                return status
            if status.state is JobState.WAITING:
                patiently(lambda: self._calls.status(self._job, wait_s=1.0))
            else:
                self._print_more(wait_s=_LOG_WAIT_S)

    def _print_more(self, *, wait_s: float) -> bool:
        data = patiently(lambda: self._calls.log(self._job, self._offset, wait_s=wait_s))
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._print_line(line)
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._print_line(self._rest)
            self._rest = b""
        return bool(data)

    @staticmethod
    def _print_line(line: bytes) -> None:
        if not line:
            return
        try:
            record = json.loads(line)
            text, logger = str(record["event"]), str(record.get("logger"))
        except (ValueError, TypeError, KeyError, RecursionError):
            text, logger = line.decode(errors="replace"), "task.stdout"
        stream = sys.stdout if logger == "task.stdout" else sys.stderr
        # The log comes from a machine that others control: no control characters for a terminal.
        shown = printable(text, keep="\t") if stream.isatty() else text
        print(encodable(shown, stream), file=stream, flush=True)

    def _tell(self, status: JobStatus) -> None:
        text = _situation(status)
        if text == self._told or (text is not None and monotonic() - self._began < _TOLD_AFTER_S):
            return
        self._told = text
        if text is not None:
            print(f"edge-relay: {printable(text)}", file=sys.stderr, flush=True)


def _situation(status: JobStatus) -> str | None:
    if status.state is not JobState.WAITING:
        return None
    if status.parked is not None:
        return f"the job is parked and waits for an operator: {status.parked}"
    again = f" again (attempt {status.attempt} of {status.max_attempts} is over)" if status.attempt else ""
    return f"the job waits{again} in queue {status.queue}"


def patiently(call: Callable[[], T]) -> T:
    """The answer of a call that may be repeated, also while the relay is away.

    Raises:
        Failure: The relay refused it, or has been away for too long.
    """
    deadline, pause_s = monotonic() + PATIENCE_S, 0.5
    while True:
        try:
            return call()
        except Failure as failure:
            if failure.status != EXIT_NO_ANSWER or monotonic() >= deadline:
                raise
            sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)


def wait_for_end(calls: ProducerCalls, job: str) -> JobStatus:
    """The status of a job at its end, without its log."""
    while True:
        status = patiently(lambda: calls.status(job, wait_s=LONGEST_WAIT_S))
        if status.state is JobState.ENDED:
            return status


def exit_status(status: JobStatus) -> int:
    """As a shell has it for a command."""
    outcome = status.outcome
    if outcome is None or outcome.verdict in {Verdict.CANCELLED, Verdict.LOST} or outcome.exit_code is None:
        return EXIT_FAILED
    return outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code
