"""Commands about workers."""

from argparse import Namespace
from collections.abc import Iterable, Iterator

from edge_relay.cli.admin_client import segment
from edge_relay.cli.fleet.actions import Kind, Targets, Verb, act, availability
from edge_relay.cli.fleet.rows import WORKER_COLOURS, event_line, facts, figure, order_text
from edge_relay.cli.fleet.views import ListView, View, query_of, show, show_list, sort_of
from edge_relay.cli.output import EXIT_USAGE, Failure, span
from edge_relay.cli.show.screen import Cell, Colour, Screen
from edge_relay.cli.show.table import Column, Table
from edge_schemas.admin.actions import WorkerActionRequest
from edge_schemas.admin.rows import WorkerDetail, WorkerPage, WorkerRow
from edge_schemas.wire import routes
from edge_schemas.wire.workers import WorkerState

WORKERS = Kind("worker", "workers", routes.ADMIN_WORKER_ACTIONS, "workers", WorkerActionRequest)
_COLUMNS = (
    Column("WORKER"),
    Column("STATE"),
    Column("SITE", shrinks=True),
    Column("QUEUES", shrinks=True),
    Column("RUNS", right=True),
    Column("SLOTS", right=True),
    Column("LAST POLL"),
    Column("NOTE", shrinks=True),
    Column("HOST", shrinks=True),
    Column("AIRFLOW"),
    Column("LABELS", shrinks=True),
    Column("TEAM", shrinks=True),
    Column("TOLERANCE"),
)


def list_workers(options: Namespace) -> None:
    """`workers list`."""
    show_list(
        options,
        ListView(
            routes.ADMIN_WORKERS,
            WorkerPage,
            _COLUMNS,
            _cells,
            "No worker matches. 'edge-relay enroll-token create' creates a token for a new one.",
            query_of(**_filter(options), sort=sort_of(options)),
            _notes,
        ),
    )


def show_worker(options: Namespace) -> None:
    """`workers show`."""
    show(options, View(routes.ADMIN_WORKER.format(worker=segment(options.worker)), WorkerDetail, _detail))


def change_availability(options: Namespace) -> None:
    """`workers pause`, `resume`, `drain` and `stop`."""
    verb, action = availability(options, options.do)
    act(options, WORKERS, _targets(options), verb, action)


def set_queues(options: Namespace) -> None:
    """`workers queues`."""
    given = {"queues": options.set, "add": options.add, "remove": options.remove, "as_enrolled": options.as_enrolled}
    wanted = {name: value for name, value in given.items() if value}
    if not wanted:
        raise Failure("what is to change? --set A,B, --add A, --remove B or --as-enrolled", EXIT_USAGE)
    act(options, WORKERS, _targets(options), _changed("queues"), {"do": "set-queues", **wanted})


def set_slots(options: Namespace) -> None:
    """`workers slots`."""
    act(options, WORKERS, _targets(options), _changed("slots"), {"do": "set-slots", "slots": options.set})


def set_labels(options: Namespace) -> None:
    """`workers labels`."""
    if not options.set and not options.remove:
        raise Failure("what is to change? --set KEY=VALUE or --remove KEY", EXIT_USAGE)
    action = {"do": "set-labels", "set": dict(options.set), "remove": options.remove}
    act(options, WORKERS, _targets(options), _changed("labels"), action)


def rotate(options: Namespace) -> None:
    """`workers rotate`."""
    after = "Each makes a new secret at its next poll; the older one is valid until the new one is first used."
    verb = Verb("rotate the credentials of", "Credential rotated", after)
    act(options, WORKERS, _targets(options), verb, {"do": "rotate"})


def revoke(options: Namespace) -> None:
    """`workers revoke`."""
    verb = Verb("revoke", "Revoked", "Calls with a revoked credential are refused from now on.")
    act(options, WORKERS, _targets(options), verb, {"do": "revoke"})


def resolve_conflict(options: Namespace) -> None:
    """`workers resolve`."""
    after = f"The {options.keep} agent is the worker now. If the other one polls again, 'workers list' shows both."
    verb = Verb("resolve the conflict of", "Resolved", after)
    act(options, WORKERS, Targets(names=[options.worker]), verb, {"do": "resolve", "keep": options.keep})


def remove(options: Namespace) -> None:
    """`workers remove`."""
    act(options, WORKERS, _targets(options), Verb("remove", "Removed"), {"do": "remove"})


def _changed(what: str) -> Verb:
    return Verb(f"change the {what} of", f"Changed {what}")


def _filter(options: Namespace) -> dict[str, object]:
    names = ("site", "queue", "state", "label", "text")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _targets(options: Namespace) -> Targets:
    """The names or the filter.

    Raises:
        Failure: Both are given, or neither.
    """
    where = _filter(options)
    given = (bool(options.workers), bool(where), options.all)
    if sum(given) != 1:
        raise Failure("name the workers, or give filters, or --all: one of them", EXIT_USAGE)
    if options.workers:
        return Targets(names=list(dict.fromkeys(options.workers)))
    if options.all:
        return Targets(all=True)
    return Targets(where=where, whose="".join(f" with {name} {value}" for name, value in where.items()))


def _cells(row: WorkerRow, on: Screen) -> tuple[str | Cell, ...]:
    return (
        row.worker,
        Cell(row.state.value, WORKER_COLOURS[row.state]),
        row.site,
        ",".join(row.queues),
        figure(row.running),
        figure(row.slots),
        on.ago(row.last_poll_at),
        _note(row, on),
        " and ".join(row.conflict) or row.hostname or "-",
        (row.versions.airflow if row.versions is not None else None) or "-",
        ",".join(f"{key}={value}" for key, value in sorted(row.labels.items())) or "-",
        row.team or "-",
        "-" if row.tolerance_s is None else span(row.tolerance_s),
    )


def _note(row: WorkerRow, on: Screen) -> str:
    parts = [*row.problems]
    if row.order is not None:
        parts.append(order_text(row.order, on, whose="site" if row.order_of_site else ""))
    if row.no_jobs_reason is not None:
        parts.append(row.no_jobs_reason)
    if row.applied_version is not None and row.applied_version != row.settings_version:
        parts.append("has not applied the newest settings yet")
    return "; ".join(parts) or "-"


def _notes(row: WorkerRow) -> Iterator[str]:
    if row.state is WorkerState.CONFLICT and len(row.conflict) > 1:
        older, newer = row.conflict[:2]
        yield (
            f"{row.worker}: two agents use its credential, the older on {older}, the newer on {newer}.\n"
            "The newer one gets no jobs. Shut down the wrong one and enrol it again, then run "
            f"'edge-relay workers resolve {row.worker} --keep older --reason WHY' (or newer)."
        )
    if row.no_jobs_reason is not None and row.state in {WorkerState.ONLINE, WorkerState.UNHEALTHY}:
        yield f"{row.worker} accepts no jobs: {row.no_jobs_reason}"


def _detail(detail: WorkerDetail, on: Screen) -> Iterable[str]:
    row = detail.row
    yield from facts(_facts(row, on), on)
    if detail.missing:
        yield from ("", on.paint("What keeps it from running jobs", Colour.STRONG))
        yield from facts([("-", line) for line in detail.missing], on)
    if detail.jobs:
        columns = (Column("JOB"), Column("PHASE"), Column("TASK", shrinks=True), Column("QUEUE"), Column("FOR"))
        cells = [
            (job.job, job.phase.value, job.task or "-", job.queue or "-", on.since(job.started_at))
            for job in detail.jobs
        ]
        yield ""
        yield from Table(columns, on).lines(cells)
    if detail.history:
        yield from ("", on.paint("What happened", Colour.STRONG))
        yield from (event_line(event, on) for event in detail.history)


def _facts(row: WorkerRow, on: Screen) -> Iterator[tuple[str, str]]:
    yield "worker", row.worker
    yield "site", row.site if row.team is None else f"{row.site}, team {row.team}"
    yield "state", row.state.value if row.state_since is None else f"{row.state.value} ({on.ago(row.state_since)})"
    if row.order is not None:
        yield "order", order_text(row.order, on, whose="site" if row.order_of_site else "")
    yield "queues", ", ".join(row.queues)
    if row.labels:
        yield "labels", ", ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))
    if row.slots is not None:
        yield "slots", f"{row.slots}, {figure(row.running)} running, {figure(row.free)} free"
    is_applied = row.applied_version == row.settings_version
    applied = "applied" if is_applied else f"applied is version {figure(row.applied_version)}"
    yield "settings", f"version {row.settings_version}, {applied}"
    for problem in row.problems:
        yield "problem", problem
    if row.no_jobs_reason is not None:
        yield "no jobs", row.no_jobs_reason
    yield "enrolled", on.ago(row.enrolled_at)
    yield "last poll", on.ago(row.last_poll_at) if row.relay is None else f"{on.ago(row.last_poll_at)}, at {row.relay}"
    yield "host", f"{row.hostname or '-'}, from {row.address or 'an unknown address'}"
    if row.conflict:
        yield "conflict", " and ".join(row.conflict)
    if row.versions is not None:
        versions = row.versions
        yield "versions", f"agent {versions.agent}, Airflow {versions.airflow or '-'}, Python {versions.python}"
        yield "platform", versions.platform
    if row.proxy is not None:
        yield "path", row.proxy if row.proxy == "direct" else f"through an {row.proxy} proxy"
