"""Follows a job to its end: prints its log while the job runs."""

import json
import sys

from edge_relay.cli.output import EXIT_FAILED, encodable, printable
from edge_relay.cli.submit.calls import ProducerCalls
from edge_relay.cli.submit.patience import TOLD_AFTER_S, patiently
from edge_relay.cli.submit.waiting import WaitTeller
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.producers.submissions import JobStatus

_LOG_WAIT_S = 10.0
_LONGEST_LINE_BYTES = 8 << 20
"""A worker writes no longer ones; of another one, the parts are printed as lines."""
_WAIT_S = 15.0
"""Of one call: in between it is seen that a job was parked, and said why it waits."""


class Follower:
    """Prints what a job prints, and tells on standard error what it waits for."""

    def __init__(self, calls: ProducerCalls, job: str) -> None:
        self._calls = calls
        self._job = job
        self._offset = 0
        self._rest = b""
        self._waits = WaitTeller(calls)

    def until_ended(self) -> JobStatus:
        """Print the log until the job has ended or is parked.

        Raises:
            Failure: The relay refuses to answer, or has been away for too long.
        """
        while True:
            status = patiently(lambda: self._calls.status(self._job))
            self._waits.saw(status)
            if is_over(status):
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


def is_over(status: JobStatus) -> bool:
    """Whether there is nothing more to wait for: a parked job waits for an operator, perhaps for ever."""
    return status.state is JobState.ENDED or status.parked is not None


def wait_for_end(calls: ProducerCalls, job: str, waits: WaitTeller) -> JobStatus:
    """The status of a job when it has ended or is parked, without its log."""
    wait_s = TOLD_AFTER_S
    while True:
        status = patiently(lambda: calls.status(job, wait_s=wait_s))  # noqa: B023  # called at once
        if is_over(status):
            return status
        waits.saw(status)
        wait_s = _WAIT_S


def exit_status(status: JobStatus) -> int:
    """As a shell has it for a command."""
    outcome = status.outcome
    if outcome is None or outcome.verdict in {Verdict.CANCELLED, Verdict.LOST} or outcome.exit_code is None:
        return EXIT_FAILED
    return outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code
