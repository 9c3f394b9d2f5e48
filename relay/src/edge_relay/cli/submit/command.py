"""`submit`: one command or payload, or a batch."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_relay.cli.admin_client import wrong_input
from edge_relay.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Failure,
    print_json,
    print_line,
    print_table,
)
from edge_relay.cli.submit.batch import read_batch, submit_all, summary, verdict_of, wait_for_all
from edge_relay.cli.submit.calls import ProducerCalls, connect
from edge_relay.cli.submit.follow import Follower, exit_status, wait_for_end
from edge_relay.cli.submit.patience import patiently, tell
from edge_relay.cli.submit.waiting import WaitTeller
from edge_schemas.life.model import Verdict
from edge_schemas.producers.submissions import JobStatus, Submission
from edge_schemas.wire.content import BYTES, MAX_CONTENT_BYTES, SentContent


class Ended(Failure):
    """The job has ended, and its exit status is that of the command."""


def submit(options: Namespace) -> None:
    """`submit`.

    Raises:
        Failure: It was refused, or there was no answer.
        Ended: The job did not succeed.
    """
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if sum((bool(argv), options.payload is not None, options.batch is not None)) != 1:
        raise Failure("say what to submit: a command after '--', --payload FILE, or --batch FILE", EXIT_USAGE)
    if options.batch is not None:
        _submit_batch(options)
        return
    submission = _submission(options, argv)
    calls = connect(options)
    submitted = patiently(lambda: calls.submit(options.queue, submission))
    if options.detach:
        print_json(submitted.model_dump(mode="json")) if options.json else print_line(submitted.job)
        return
    status = _follow(calls, submitted.job, options)
    if options.json:
        print_json(status.model_dump(mode="json", exclude_none=True))
    _end(status)


def _submission(options: Namespace, argv: list[str]) -> Submission:
    work: dict[str, Any] = {"command": None, "payload": None}
    try:
        if argv:
            command = {"argv": argv, "env": dict(options.env), "cwd": options.cwd, "timeout_s": options.timeout}
            work["command"] = command
        else:
            content_type = options.content_type or BYTES
            work["payload"] = SentContent.of(_read_payload(options.payload), content_type).model_dump()
        return Submission.model_validate(
            {
                **{name: value for name, value in work.items() if value is not None},
                "name": options.name,
                "key": options.key,
                "priority": options.priority or 0,
                "delay_s": options.delay or 0,
                "ttl_s": options.ttl,
                "on_lost": options.on_lost,
                "max_attempts": options.max_attempts,
                "group": options.group,
                "labels": dict(options.label),
            }
        )
    except ValidationError as error:
        raise wrong_input(error) from None


def _read_payload(name: str) -> bytes:
    try:
        body = sys.stdin.buffer.read(MAX_CONTENT_BYTES + 1) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"--payload: {name} can't be read: {error.strerror}", EXIT_USAGE) from None
    if len(body) > MAX_CONTENT_BYTES:
        raise Failure("--payload: it is larger than 256 KiB; submit a reference to the data instead", EXIT_USAGE)
    return body


def _follow(calls: ProducerCalls, job: str, options: Namespace) -> JobStatus:
    follower = Follower(calls, job)

    def end() -> JobStatus:
        return wait_for_end(calls, job, WaitTeller(calls)) if options.json else follower.until_ended()

    try:
        return end()
    except KeyboardInterrupt:
        tell(f"cancelling job {job}; Ctrl-C again does not wait for its end")
        patiently(lambda: calls.cancel(job))
        status = end()
        raise Ended(f"job {job} was interrupted: {_end_text(status)}", EXIT_INTERRUPTED) from None


def _end(status: JobStatus) -> None:
    outcome = status.outcome
    if outcome is None or outcome.verdict is not Verdict.SUCCEEDED:
        raise Ended(f"job {status.job} {_end_text(status)}", exit_status(status) or EXIT_FAILED)


def _end_text(status: JobStatus) -> str:
    outcome = status.outcome
    if outcome is None:
        return f"is parked, and only an operator can let it run: {status.parked}"
    where = f" on {status.worker}" if status.worker else ""
    return f"{outcome.verdict.value}{where}" + (f": {outcome.reason}" if outcome.reason else "")


def _submit_batch(options: Namespace) -> None:
    calls = connect(options)
    jobs = submit_all(calls, options.queue, read_batch(options.batch))
    if options.detach:
        print_json(jobs) if options.json else print("\n".join(jobs))
        return
    ended = wait_for_all(calls, jobs)
    if options.json:
        print(json.dumps([one.model_dump(mode="json", exclude_none=True) for one in ended], indent=2))
    else:
        print_table(("JOB", "NAME", "WORKER", "VERDICT", "EXIT CODE", "ATTEMPT"), [_row(one) for one in ended])
    if any(one.outcome is None or one.outcome.verdict is not Verdict.SUCCEEDED for one in ended):
        raise Ended(f"of {len(ended)} jobs: {summary(ended)}")


def _row(one: JobStatus) -> tuple[str, ...]:
    outcome = one.outcome
    code = "-" if outcome is None or outcome.exit_code is None else str(outcome.exit_code)
    return one.job, one.name, one.worker or "-", verdict_of(one), code, str(one.attempt)
