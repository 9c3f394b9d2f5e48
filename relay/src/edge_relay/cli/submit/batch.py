"""A batch of submissions: one JSON object in each line of a file."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from pydantic import ValidationError

from edge_relay.cli.admin_client import wrong_input
from edge_relay.cli.output import EXIT_USAGE, Failure
from edge_relay.cli.submit.calls import ProducerCalls
from edge_relay.cli.submit.follow import wait_for_end
from edge_relay.cli.submit.patience import patiently
from edge_relay.cli.submit.waiting import WaitTeller
from edge_schemas.producers.submissions import MAX_BATCH, JobStatus, Submission, SubmissionBatch

_PIECE_BYTES = 4 << 20
_MAX_LINE_CHARS = 1 << 20


def read_batch(name: str) -> list[Submission]:
    """The submissions of a file.

    Raises:
        Failure: It can't be read, or a line is no submission.
    """
    try:
        if name == "-":
            return list(_parse(sys.stdin))
        with open(name, encoding="utf-8") as file:  # noqa: PTH123  # `-` is no path
            return list(_parse(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--batch: {name} can't be read: {error}", EXIT_USAGE) from None


def _parse(lines: Iterable[str]) -> Iterator[Submission]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > _MAX_LINE_CHARS:
            raise Failure(f"--batch: line {number} is longer than 1 MiB", EXIT_USAGE)
        try:
            yield Submission.model_validate_json(line)
        except ValidationError as error:
            raise Failure(f"--batch: line {number}: {wrong_input(error)}", EXIT_USAGE) from None


def submit_all(calls: ProducerCalls, queue: str, submissions: Sequence[Submission]) -> list[str]:
    """Submit them piece by piece; returns the ids of the jobs.

    Raises:
        Failure: One was refused. Those before it are submitted: with keys, the batch can be submitted again.
    """
    jobs: list[str] = []
    for piece in _pieces(submissions):
        batch = SubmissionBatch(jobs=tuple(piece))
        for result in patiently(lambda batch=batch: calls.submit_batch(queue, batch)).jobs:  # type: ignore[misc]  # bound now
            if result.job is None:
                text = f"submission {len(jobs) + 1} was refused ({result.code}): {result.detail}"
                raise Failure(f"{text}; {len(jobs)} were submitted before it")
            jobs.append(result.job)
    return jobs


def _pieces(submissions: Sequence[Submission]) -> Iterator[list[Submission]]:
    """As many at once as one call takes."""
    rest = iter(submissions)
    while piece := list(islice(rest, MAX_BATCH)):
        while piece:
            size, count = 0, 0
            for one in piece:
                size += len(one.model_dump_json(exclude_defaults=True))
                if count and size > _PIECE_BYTES:
                    break
                count += 1
            yield piece[:count]
            piece = piece[count:]


def wait_for_all(calls: ProducerCalls, jobs: Sequence[str]) -> list[JobStatus]:
    """All jobs when each has ended or is parked, with a line on standard error that says how many there are."""
    ended: list[JobStatus] = []
    shows = sys.stderr.isatty()
    waits = WaitTeller(calls, is_batch=True)
    for job in jobs:
        ended.append(wait_for_end(calls, job, waits))
        if shows:
            print(f"\r{len(ended)} of {len(jobs)} jobs have ended", end="", file=sys.stderr, flush=True)
    if shows:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return ended


def verdict_of(status: JobStatus) -> str:
    """How a job has ended; it has not if it is parked."""
    return "parked" if status.outcome is None else status.outcome.verdict.value


def summary(ended: Sequence[JobStatus]) -> str:
    """How many ended how."""
    verdicts = Counter(verdict_of(one) for one in ended)
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
