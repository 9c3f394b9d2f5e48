"""Commands about workers and their tokens, which call `/v1/admin` of a relay."""

import json
from argparse import Namespace
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from edge_relay.cli.admin_client import AdminClient, connect, segment
from edge_relay.cli.output import EXIT_USAGE, Failure, print_done, print_json, print_line, print_table, span
from edge_schemas.admin.actions import ActionResult, ResolveConflict, Revoke, WorkerAction, WorkerActionRequest
from edge_schemas.admin.rows import MAX_PAGE_ROWS, WorkerPage, WorkerRow
from edge_schemas.wire import routes
from edge_schemas.wire.ids import LABEL_RULE
from edge_schemas.wire.workers import (
    EnrollToken,
    EnrollTokenRequest,
    WorkerState,
)


def create_enroll_token(options: Namespace) -> None:
    """`enroll-token create`."""
    queues = tuple(part.strip() for part in options.queues.split(",") if part.strip())
    try:
        order = EnrollTokenRequest(
            queues=queues, site=options.site, team=options.team, uses=options.uses, ttl_s=options.ttl
        )
    except ValidationError as error:
        from edge_relay.http.bodies import explain

        raise Failure(explain(error), EXIT_USAGE) from None
    answer = connect(options).call("POST", routes.ADMIN_ENROLL_TOKENS, order.model_dump_json())
    token = EnrollToken.model_validate_json(answer)
    if options.json:
        print_json(json.loads(answer))
        return
    print_line(token.token)
    queues_text = ", ".join(token.queues)
    print_line(
        f"For {token.uses} worker(s) at {token.site}, queues {queues_text}, until {token.expires_at:%F %H:%M} UTC."
    )
    print_line("It is shown only now. On the worker's machine put it into a file and run 'edge-worker enroll'.")


def list_workers(options: Namespace) -> None:
    """`workers list`."""
    workers = _all_workers(connect(options))
    if options.json:
        print_json({"items": [json.loads(worker.model_dump_json(exclude_none=True)) for worker in workers]})
        return
    if not workers:
        print_line("No worker has enrolled yet. 'edge-relay enroll-token create' creates a token for one.")
        return
    header = ("WORKER", "SITE", "TEAM", "QUEUES", "STATE", "LAST POLL", "JOBS", "SLOTS", "TOLERANCE", "AIRFLOW", "HOST")
    print_table(header, [_row(worker, datetime.now(UTC)) for worker in workers])
    for worker in workers:
        if worker.state is WorkerState.CONFLICT:
            older, newer = worker.conflict
            print_line(
                f"\n{worker.worker}: two agents use its credential, the older on {older}, the newer on {newer}.\n"
                "The newer one gets no jobs. Shut down the wrong one and enrol it again, then run "
                f"'edge-relay workers resolve {worker.worker} --keep older' (or newer)."
            )
        if worker.no_jobs_reason is not None and worker.state is WorkerState.UNHEALTHY:
            print_line(f"\n{worker.worker} accepts no jobs: {worker.no_jobs_reason}")


def revoke_worker(options: Namespace) -> None:
    """`workers revoke`."""
    _act(options, Revoke(do="revoke"), "revoked on the command line")
    print_done(options, f"{options.worker} is revoked: its calls are refused from now on.", worker=options.worker)


def resolve_conflict(options: Namespace) -> None:
    """`workers resolve`."""
    _act(options, ResolveConflict(do="resolve", keep=options.keep), "resolved on the command line")
    text = f"The {options.keep} agent is {options.worker} now. If the other one polls again, 'workers list' shows both."
    print_done(options, text, worker=options.worker, keep=options.keep)


def _all_workers(client: AdminClient) -> list[WorkerRow]:
    """All pages of the list."""
    workers: list[WorkerRow] = []
    cursor = ""
    while True:
        answer = client.call("GET", f"{routes.ADMIN_WORKERS}?limit={MAX_PAGE_ROWS}{cursor}")
        page = WorkerPage.model_validate_json(answer)
        workers += page.items
        if page.next is None:
            return workers
        cursor = f"&cursor={segment(page.next)}"


def _act(options: Namespace, action: WorkerAction, reason: str) -> None:
    """Act on one worker.

    Raises:
        Failure: The relay refused it.
    """
    try:
        order = WorkerActionRequest(action=action, workers=(options.worker,), reason=reason)
    except ValidationError:
        raise Failure(f"a worker's name is {LABEL_RULE}", EXIT_USAGE) from None
    answer = connect(options).call("POST", routes.ADMIN_WORKER_ACTIONS, order.model_dump_json())
    for failure in ActionResult.model_validate_json(answer).failures:
        raise Failure(f"refused ({failure.code}): {failure.detail}")


def _row(worker: WorkerRow, now: datetime) -> tuple[str, ...]:
    return (
        worker.worker,
        worker.site,
        worker.team or "-",
        ",".join(worker.queues),
        worker.state.value,
        "never" if worker.last_poll_at is None else _ago(now - worker.last_poll_at),
        _count(None if worker.running is None else worker.running + (worker.granted or 0)),
        _count(worker.slots),
        "-" if worker.tolerance_s is None else span(worker.tolerance_s),
        (worker.versions.airflow if worker.versions else None) or "-",
        " and ".join(worker.conflict) or worker.hostname or "-",
    )


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
