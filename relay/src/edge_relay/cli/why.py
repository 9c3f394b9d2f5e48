"""`why`: why a job or a task instance is still queued, from `/v1/admin` of a relay."""

import json
import textwrap
from argparse import Namespace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from edge_relay.cli.admin_client import connect, segment
from edge_relay.cli.output import EXIT_USAGE, Failure, print_facts, print_json, print_line
from edge_schemas.admin.why import WhyAnswer
from edge_schemas.why.wording import span
from edge_schemas.wire import routes

WIDTH = 100


def show_causes(options: Namespace) -> None:
    """`why`."""
    answer = connect(options).call("GET", _path(options))
    if options.json:
        print_json(json.loads(answer))
        return
    why = WhyAnswer.model_validate_json(answer)
    print_facts(_facts(why))
    for number, cause in enumerate(why.causes, start=1):
        print_line(textwrap.fill(cause.text, WIDTH, initial_indent=f"{number:>2}. ", subsequent_indent="    "))


def _path(options: Namespace) -> str:
    names = (options.dag, options.run, options.task)
    if options.job is not None:
        if any(name is not None for name in names):
            raise Failure("give either JOB, or DAG RUN TASK", EXIT_USAGE)
        return routes.ADMIN_JOB_WHY.format(job=segment(options.job))
    if options.dag is not None and options.run is None:
        # One word alone can only be a job.
        return routes.ADMIN_JOB_WHY.format(job=segment(options.dag))
    if any(name is None for name in names):
        raise Failure("give JOB, or DAG RUN TASK", EXIT_USAGE)
    query = {"dag": options.dag, "run": options.run, "task": options.task, "map_index": options.map_index}
    return f"{routes.ADMIN_WHY}?{urlencode(query, quote_via=quote)}"


def _facts(why: WhyAnswer) -> list[tuple[str, str]]:
    facts = (
        ("task", why.task),
        ("job", why.job),
        ("queue", why.queue),
        ("in Airflow", why.airflow_state),
        ("state", None if why.state is None else why.state.value),
        ("waits", None if why.waits_since is None else _since(why.waits_since, why.as_of)),
    )
    return [(name, value) for name, value in facts if value is not None]


def _since(at: datetime, now: datetime) -> str:
    return f"for {span((now - at).total_seconds())}, since {at.astimezone(UTC):%F %T} UTC"
