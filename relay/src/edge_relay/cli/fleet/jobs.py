"""Commands about jobs, and about parked ones."""

from argparse import Namespace
from collections.abc import Iterable, Iterator

from edge_relay.cli.admin_client import connect, parse, segment
from edge_relay.cli.fleet.actions import Kind, Targets, Verb, act
from edge_relay.cli.fleet.rows import JOB_COLOURS, facts
from edge_relay.cli.fleet.views import ListView, View, query_of, show, show_list, sort_of
from edge_relay.cli.output import EXIT_USAGE, Failure, print_line, printable, span
from edge_relay.cli.show.screen import Cell, Colour, Screen
from edge_relay.cli.show.table import Column
from edge_schemas.admin.actions import JobActionRequest
from edge_schemas.admin.rows import JobDetail, JobPage, JobRow
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.why.wording import short_digest
from edge_schemas.wire import routes

JOBS = Kind("job", "jobs", routes.ADMIN_JOB_ACTIONS, "jobs", JobActionRequest)
DEAD = Kind("parked job", "parked jobs", routes.ADMIN_JOB_ACTIONS, "jobs", JobActionRequest)
_COLUMNS = (
    Column("JOB"),
    Column("STATE"),
    Column("TASK", shrinks=True),
    Column("FOR"),
    Column("QUEUE", shrinks=True),
    Column("WORKER", shrinks=True),
    Column("NOTE", shrinks=True),
    Column("TRY", right=True),
    Column("RUN", shrinks=True),
    Column("CREATED"),
)
_DEAD_COLUMNS = (
    Column("JOB"),
    Column("TASK", shrinks=True),
    Column("QUEUE", shrinks=True),
    Column("WHY", shrinks=True),
    Column("RELEASES", right=True),
    Column("CREATED"),
    Column("RUN", shrinks=True),
)
_FILTERS = ("queue", "worker", "dag_id", "run_id")


def list_jobs(options: Namespace) -> None:
    """`jobs list`."""
    is_ended = options.state == "ended"
    state = None if is_ended else options.state
    query = query_of(
        **_filter(options), site=options.site, state=state, ended=is_ended, text=options.text, sort=sort_of(options)
    )
    empty = "No job matches. Jobs that have ended are shown for seven days: --state ended."
    show_list(options, ListView(routes.ADMIN_JOBS, JobPage, _COLUMNS, _cells, empty, query))


def list_dead(options: Namespace) -> None:
    """`dead list`."""
    query = query_of(**_filter(options), parked=True, sort=sort_of(options))
    show_list(options, ListView(routes.ADMIN_JOBS, JobPage, _DEAD_COLUMNS, _dead_cells, "No job is parked.", query))


def show_job(options: Namespace) -> None:
    """`jobs show`."""
    show(options, View(routes.ADMIN_JOB.format(job=segment(options.job)), JobDetail, _detail))


def cancel(options: Namespace) -> None:
    """`jobs cancel`."""
    act(options, JOBS, _targets(options), Verb("cancel", "Cancelled"), {"do": "cancel"})
    if len(options.jobs) == 1 and not options.json and not options.dry_run:
        path = routes.ADMIN_JOB.format(job=segment(options.jobs[0]))
        detail = parse(JobDetail, connect(options).read(path).body or b"")
        print_line(_after_cancel(detail.record))


def redrive(options: Namespace) -> None:
    """`dead redrive`."""
    verb = Verb("redrive", "Redriven", "They wait again: a submitted job at once, a job of Airflow within a minute.")
    act(options, DEAD, _targets(options, parked=True), verb, {"do": "redrive"})


def purge(options: Namespace) -> None:
    """`dead purge`."""
    act(options, DEAD, _targets(options, parked=True), Verb("purge", "Purged"), {"do": "purge"})


def _filter(options: Namespace) -> dict[str, object]:
    return {name: value for name in _FILTERS if (value := getattr(options, name, None)) is not None}


def _targets(options: Namespace, *, parked: bool = False) -> Targets:
    where = _filter(options)
    everything = getattr(options, "all", False)
    if sum((bool(options.jobs), bool(where), everything)) != 1:
        text = "name the jobs, or give filters" + (", or --all" if parked else "")
        raise Failure(f"{text}: one of them", EXIT_USAGE)
    if options.jobs:
        return Targets(names=list(dict.fromkeys(options.jobs)))
    whose = "".join(f" with {name.removesuffix('_id')} {value}" for name, value in where.items())
    return Targets(where={**where, "parked": True} if parked else where, whose=whose)


def _after_cancel(record: JobRecord) -> str:
    """What became of a job: it may have ended, or be about to."""
    if record.state is JobState.STOPPING and record.holder is not None:
        return f"{record.id} is stopping; worker {record.holder.worker} is notified."
    if record.state is JobState.RUNNING:
        return f"{record.id} continues: its final state is on its way to Airflow."
    return f"{record.id} has ended: {_outcome(record)}."


def _outcome(record: JobRecord) -> str:
    outcome = record.outcome
    if outcome is None:
        return record.state.value
    return outcome.verdict.value if outcome.reason is None else f"{outcome.verdict}, {outcome.reason}"


def _cells(row: JobRow, on: Screen) -> tuple[str | Cell, ...]:
    state = row.verdict or row.state
    is_parked = row.parked is not None and row.state is JobState.WAITING
    cell = Cell("parked", Colour.BAD) if is_parked else Cell(state.value, JOB_COLOURS.get(state))
    since = row.ended_at or row.started_at or row.waits_since or row.created_at
    return (
        row.job,
        cell,
        row.task,
        on.since(since),
        row.queue,
        row.worker or "-",
        row.parked or row.stop_reason or row.reason or "-",
        "-" if row.try_number is None else str(row.try_number),
        row.run_id or "-",
        on.ago(row.created_at),
    )


def _dead_cells(row: JobRow, on: Screen) -> tuple[str, ...]:
    task = row.task if row.try_number is None else f"{row.task}, try {row.try_number}"
    return row.job, task, row.queue, row.parked or "-", str(row.releases), on.ago(row.created_at), row.run_id or "-"


def _detail(detail: JobDetail, on: Screen) -> Iterable[str]:
    yield from facts(_facts(detail, on), on)
    yield ""
    yield on.paint("What happened", Colour.STRONG)
    for moment in detail.timeline:
        where = "" if moment.worker is None else f", {moment.worker}"
        yield printable(f"{on.moment(moment.at)}  {moment.what}{where}")


def _facts(detail: JobDetail, on: Screen) -> Iterator[tuple[str, str]]:
    record = detail.record
    offline = record.offline
    yield "job", record.id
    yield "queue", record.queue if record.team is None else f"{record.queue} of team {record.team}"
    yield _work(record)
    yield "state", record.state.value if record.parked is None else f"{record.state}, parked: {record.parked}"
    yield "offline", f"given up after {span(offline.tolerance_s)} without contact; on silence: {offline.on_silence}"
    if (bundle := detail.bundle) is not None:
        packages = "" if bundle.requirements is None else f", with the packages of {bundle.requirements}"
        yield "DAG code", f"version {short_digest(bundle.digest)} of bundle {bundle.name}{packages}"
    if record.holder is not None:
        site = "" if detail.row.site is None else f" at {detail.row.site}"
        yield "worker", f"{record.holder.worker}{site}, since {on.moment(record.holder.started_at)}"
    if record.user_code is not None:
        code = record.user_code
        yield "user code", f"since {on.moment(code.at)} on {code.hostname}, pid {code.pid}"
    if record.stop is not None:
        yield "stopping", f"since {on.moment(record.stop.at)}: {record.stop.reason}"
    if record.finishing:
        yield "finishing", "its final state is on its way to Airflow"
    if record.outcome is not None:
        yield "ended", f"{on.moment(record.outcome.ended_at)}: {_outcome(record)}"
    if detail.airflow_url is not None:
        yield "Airflow", detail.airflow_url


def _work(record: JobRecord) -> tuple[str, str]:
    if record.task is not None:
        task = record.task
        index = "" if task.map_index < 0 else f" [{task.map_index}]"
        return "task", f"{task.dag_id}.{task.task_id}{index}, run {task.run_id}, try {task.try_number}"
    return "auxiliary", "-" if record.auxiliary is None else f"{record.auxiliary.kind} {record.auxiliary.id}"
