"""Commands about jobs, which call `/v1/admin` of a relay."""

import json
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import ValidationError

from edge_relay.cli.admin_client import connect, segment
from edge_relay.cli.output import EXIT_USAGE, Failure, print_done, print_facts, print_json, print_line, span
from edge_schemas.admin.actions import ActionResult, JobActionRequest
from edge_schemas.admin.rows import JobDetail
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire import routes


def show_job(options: Namespace) -> None:
    """`jobs show`."""
    answer = connect(options).call("GET", routes.ADMIN_JOB.format(job=segment(options.job)))
    if options.json:
        print_json(json.loads(answer))
    else:
        print_facts(_job_facts(JobDetail.model_validate_json(answer).record))


def cancel_job(options: Namespace) -> None:
    """`jobs cancel`."""
    _act(options, {"do": "cancel"}, options.reason)
    answer = connect(options).call("GET", routes.ADMIN_JOB.format(job=segment(options.job)))
    record = JobDetail.model_validate_json(answer).record
    if options.json:
        print_json(json.loads(record.model_dump_json(exclude_none=True)))
    elif record.state is JobState.STOPPING and record.holder is not None:
        print_line(f"{record.id} is stopping; worker {record.holder.worker} is notified.")
    elif record.state is JobState.RUNNING:
        print_line(f"{record.id} continues: its final state is on its way to Airflow.")
    else:
        print_line(f"{record.id} has ended: {_outcome(record)}.")


def redrive_job(options: Namespace) -> None:
    """`jobs redrive`."""
    _act(options, {"do": "redrive"}, "redriven on the command line")
    text = f"{options.job} waits; if it was parked, its executor republishes it within a minute."
    print_done(options, text, job=options.job)


def _act(options: Namespace, action: dict[str, str], reason: str) -> None:
    """Act on one job.

    Raises:
        Failure: The order is wrong, or the relay refused it.
    """
    try:
        order = JobActionRequest.model_validate({"action": action, "jobs": [options.job], "reason": reason})
    except ValidationError as error:
        from edge_relay.http.bodies import explain

        raise Failure(explain(error), EXIT_USAGE) from None
    body = order.model_dump_json(exclude_none=True)
    result = ActionResult.model_validate_json(connect(options).call("POST", routes.ADMIN_JOB_ACTIONS, body))
    if result.failures:
        raise Failure(f"refused ({result.failures[0].code}): {result.failures[0].detail}")


def _job_facts(record: JobRecord) -> list[tuple[str, str]]:
    """The facts about a job, by name."""
    offline = record.offline
    return [
        ("job", record.id),
        ("queue", record.queue if record.team is None else f"{record.queue} of team {record.team}"),
        _work(record),
        ("state", record.state.value if record.parked is None else f"{record.state}, parked: {record.parked}"),
        ("offline", f"given up after {span(offline.tolerance_s)} without contact; on silence: {offline.on_silence}"),
        ("created", _moment(record.created_at)),
        *_history(record),
    ]


def _work(record: JobRecord) -> tuple[str, str]:
    if record.task is not None:
        task = record.task
        index = "" if task.map_index < 0 else f" [{task.map_index}]"
        return "task", f"{task.dag_id}.{task.task_id}{index}, run {task.run_id}, try {task.try_number}"
    return "auxiliary", "-" if record.auxiliary is None else f"{record.auxiliary.kind} {record.auxiliary.id}"


def _history(record: JobRecord) -> Iterator[tuple[str, str]]:
    """In the order in which it happened."""
    for note in record.releases:
        yield "released", f"{_moment(note.at)} by {note.worker or 'a relay'}: {note.reason}"
    if record.state is JobState.WAITING and record.waiting_again_since is not None:
        yield "waits again", f"since {_moment(record.waiting_again_since)}"
    if record.holder is not None:
        yield "held", f"since {_moment(record.holder.started_at)} by {record.holder.worker}"
    if record.user_code is not None:
        code = record.user_code
        yield "user code", f"since {_moment(code.at)} on {code.hostname}, pid {code.pid}"
    if record.stop is not None:
        yield "stopping", f"since {_moment(record.stop.at)}: {record.stop.reason}"
    if record.outcome is not None:
        yield "ended", f"{_moment(record.outcome.ended_at)}: {_outcome(record)}"


def _outcome(record: JobRecord) -> str:
    outcome = record.outcome
    if outcome is None:
        return record.state.value
    return f"{outcome.verdict}, {outcome.reason}" if outcome.reason else outcome.verdict.value


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%F %T} UTC"
