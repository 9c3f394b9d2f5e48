"""Commands that speak to `/v1/admin` of a relay."""

import json
import ssl
import urllib.error
import urllib.request
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError
from typing_extensions import override

from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE, Failure, print_facts, print_json, print_table, say
from edge_relay.private_files import read_secret
from edge_relay.settings import AdminSettings, SettingsError
from edge_relay.standalone_facts import Facts, read_facts
from edge_schemas import routes
from edge_schemas.errors import Problem
from edge_schemas.records import JobRecord, JobState
from edge_schemas.workers import (
    CancelRequest,
    EnrollToken,
    EnrollTokenRequest,
    SettleRequest,
    WorkerList,
    WorkerState,
    WorkerSummary,
)

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Calls of one command. Synchronous: a command makes one call and ends."""

    url: str
    token: str
    ca_file: Path | None

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """The body of a good answer.

        Raises:
            Failure: The relay refused, or there was no answer.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else body.encode()
        try:
            request = urllib.request.Request(  # noqa: S310  # the scheme was checked
                self.url + path, data=data, headers=headers, method=method
            )
            with self._opener().open(request, timeout=TIMEOUT_S) as answer:
                return bytes(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            text = f"no answer from {self.url}: {_reason(error)}. Is the relay up, and is --url right?"
            raise Failure(text, EXIT_NO_ANSWER) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        try:
            tls = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except OSError as error:
            raise Failure(f"can't use the CA file {self.ca_file}: {error}", EXIT_USAGE) from None
        # The operators' listener is internal: no proxy has a part in it, and nobody may redirect the token.
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls), _NoRedirect()
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that points elsewhere is an error: the token would go along."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


def create_enroll_token(options: Namespace) -> None:
    """`enroll-token create`."""
    queues = tuple(part.strip() for part in options.queues.split(",") if part.strip())
    try:
        order = EnrollTokenRequest(
            queues=queues, site=options.site, team=options.team, uses=options.uses, ttl_s=options.ttl
        )
    except ValidationError as error:
        from edge_relay.bodies import explain

        raise Failure(explain(error), EXIT_USAGE) from None
    answer = _client(options).call("POST", routes.ADMIN_ENROLL_TOKENS, order.model_dump_json())
    token = EnrollToken.model_validate_json(answer)
    if options.json:
        print_json(json.loads(answer))
        return
    say(token.token)
    queues_text = ", ".join(token.queues)
    say(f"For {token.uses} worker(s) at {token.site}, queues {queues_text}, until {token.expires_at:%F %H:%M} UTC.")
    say("It is shown this once. On the worker's machine put it into a file and run 'edge-worker enroll'.")


def list_workers(options: Namespace) -> None:
    """`workers list`."""
    answer = _client(options).call("GET", routes.ADMIN_WORKERS)
    if options.json:
        print_json(json.loads(answer))
        return
    workers = WorkerList.model_validate_json(answer).workers
    if not workers:
        say("No worker has enrolled yet. 'edge-relay enroll-token create' makes a token for one.")
        return
    header = ("WORKER", "SITE", "TEAM", "QUEUES", "STATE", "LAST POLL", "JOBS", "SLOTS", "TOLERANCE", "HOST")
    print_table(header, [_row(worker, datetime.now(UTC)) for worker in workers])
    for worker in workers:
        if worker.state is WorkerState.CONTESTED:
            older, newer = worker.contest
            say(
                f"\n{worker.worker}: two agents use its credential, the older on {older}, the newer on {newer}.\n"
                "The newer one gets no jobs. Shut down the wrong one and enrol it anew, then run "
                f"'edge-relay workers settle {worker.worker} --keep older' (or newer)."
            )


def revoke_worker(options: Namespace) -> None:
    """`workers revoke`."""
    _client(options).call("POST", routes.ADMIN_WORKER_REVOKE.format(worker=_segment(options.worker)), "")
    _done(options, f"{options.worker} is revoked: its calls are refused from now on.", worker=options.worker)


def settle_worker(options: Namespace) -> None:
    """`workers settle`."""
    order = SettleRequest(keep=options.keep)
    path = routes.ADMIN_WORKER_SETTLE.format(worker=_segment(options.worker))
    _client(options).call("POST", path, order.model_dump_json())
    text = (
        f"The {options.keep} agent is {options.worker}. Should the other one live on, 'workers list' shows both again."
    )
    _done(options, text, worker=options.worker, keep=options.keep)


def show_job(options: Namespace) -> None:
    """`jobs show`."""
    answer = _client(options).call("GET", routes.ADMIN_JOB.format(job=_segment(options.job)))
    if options.json:
        print_json(json.loads(answer))
    else:
        print_facts(_job_facts(JobRecord.model_validate_json(answer)))


def cancel_job(options: Namespace) -> None:
    """`jobs cancel`."""
    try:
        order = CancelRequest(reason=options.reason)
    except ValidationError as error:
        from edge_relay.bodies import explain

        raise Failure(explain(error), EXIT_USAGE) from None
    path = routes.ADMIN_JOB_CANCEL.format(job=_segment(options.job))
    answer = _client(options).call("POST", path, order.model_dump_json())
    if options.json:
        print_json(json.loads(answer))
        return
    record = JobRecord.model_validate_json(answer)
    if record.state is JobState.STOPPING and record.holder is not None:
        say(f"{record.id} is to stop; worker {record.holder.worker} is told.")
    elif record.state is JobState.RUNNING:
        say(f"{record.id} goes on: its final state is on its way to Airflow.")
    else:
        say(f"{record.id} has ended: {_outcome(record)}.")


def redrive_job(options: Namespace) -> None:
    """`jobs redrive`."""
    _client(options).call("POST", routes.ADMIN_JOB_REDRIVE.format(job=_segment(options.job)), "")
    text = f"{options.job} waits; if it was parked, its executor publishes it within a minute."
    _done(options, text, job=options.job)


def _done(options: Namespace, text: str, **facts: str) -> None:
    if options.json:
        print_json(facts)
    else:
        say(text)


def _client(options: Namespace) -> AdminClient:
    """From the options, else the environment; a data folder stands for all three.

    Raises:
        Failure: It is not clear which relay is meant.
    """
    try:
        settings = AdminSettings()
        facts = None if options.data_dir is None else read_facts(options.data_dir)
        token_file = _token_file(options, facts, settings)
        secret = settings.access_token.get_secret_value().strip() if settings.access_token else ""
        token = read_secret(token_file) if token_file is not None else secret
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    if not token:
        text = "an access token is needed: --data-dir of a standalone relay, --access-token-file, or RELAY_ACCESS_TOKEN"
        raise Failure(text, EXIT_USAGE)
    if not token.isascii() or not token.isprintable() or " " in token:
        # Nobody repeats it: what else stands beside the token may be one too.
        raise Failure("the access token is one word of ASCII characters; what was given is not", EXIT_USAGE)
    url = str(options.url or (facts.operator_url if facts is not None else "") or settings.admin_url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url: {url!r} is no http:// or https:// address", EXIT_USAGE)
    return AdminClient(url, token, options.ca_file or settings.admin_ca_file)


def _token_file(options: Namespace, facts: Facts | None, settings: AdminSettings) -> Path | None:
    given: Path | None = options.access_token_file
    if given is not None:
        return given
    return settings.access_token_file if facts is None else facts.access_token_file


def _refusal(error: urllib.error.HTTPError) -> Failure:
    body = error.read(1 << 16)
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return Failure(f"status {error.code}, not from the operators' listener of a relay: check --url")
    hints = {
        "unauthenticated": ": check the access token",
        "credential_revoked": ": 'edge-relay access-token create' makes another",
    }
    status = EXIT_NO_ANSWER if problem.retryable and problem.status >= 500 else 1
    return Failure(f"refused ({problem.code}): {problem.detail or problem.title}{hints.get(problem.code, '')}", status)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def _segment(name: str) -> str:
    return quote(name, safe="")


def _row(worker: WorkerSummary, now: datetime) -> tuple[str, ...]:
    return (
        worker.worker,
        worker.site,
        worker.team or "-",
        ",".join(worker.queues),
        worker.state.value,
        "never" if worker.last_poll_at is None else _ago(now - worker.last_poll_at),
        _count(worker.jobs),
        _count(worker.slots),
        "-" if worker.tolerance_s is None else _span(worker.tolerance_s),
        " and ".join(worker.contest) or worker.hostname or "-",
    )


def _job_facts(record: JobRecord) -> list[tuple[str, str]]:
    """What there is to say about a job, in the order in which it happened."""
    contract = record.offline
    facts = [
        ("job", record.id),
        ("queue", record.queue if record.team is None else f"{record.queue} of team {record.team}"),
        ("task", "-"),
        ("state", record.state.value if record.parked is None else f"{record.state}, parked: {record.parked}"),
        (
            "offline",
            f"given up {_span(contract.tolerance_s)} after the last contact; on silence: {contract.on_silence}",
        ),
        ("created", _moment(record.created_at)),
    ]
    if record.task is not None:
        task = record.task
        where = "" if task.map_index < 0 else f" [{task.map_index}]"
        facts[2] = ("task", f"{task.dag_id}.{task.task_id}{where}, run {task.run_id}, try {task.try_number}")
    elif record.errand is not None:
        facts[2] = ("errand", f"{record.errand.kind} {record.errand.id}")
    facts += [("given back", f"{_moment(note.at)} by {note.worker}: {note.reason}") for note in record.releases]
    if record.holder is not None:
        facts.append(("held", f"since {_moment(record.holder.started_at)} by {record.holder.worker}"))
    if record.user_code is not None:
        code = record.user_code
        facts.append(("user code", f"since {_moment(code.at)} on {code.hostname}, pid {code.pid}"))
    if record.stop is not None:
        facts.append(("to stop", f"since {_moment(record.stop.at)}: {record.stop.reason}"))
    if record.outcome is not None:
        facts.append(("ended", f"{_moment(record.outcome.ended_at)}: {_outcome(record)}"))
    return facts


def _outcome(record: JobRecord) -> str:
    outcome = record.outcome
    if outcome is None:
        return record.state.value
    return f"{outcome.verdict}, {outcome.reason}" if outcome.reason else outcome.verdict.value


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%F %T} UTC"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
