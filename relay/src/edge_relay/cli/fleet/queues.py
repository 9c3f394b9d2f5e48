"""Commands about queues."""

from argparse import Namespace
from collections.abc import Iterator

from edge_relay.cli.admin_client import connect
from edge_relay.cli.fleet.actions import Kind, Targets, Verb, act, availability
from edge_relay.cli.fleet.rows import facts, figure, order_text, seconds, sparkline
from edge_relay.cli.fleet.views import ListView, View, pages, query_of, show, show_list, sort_of
from edge_relay.cli.output import EXIT_USAGE, Failure
from edge_relay.cli.show.screen import Cell, Colour, Screen
from edge_relay.cli.show.table import Column
from edge_schemas.admin.actions import QueueActionRequest
from edge_schemas.admin.rows import QueuePage, QueueRow
from edge_schemas.wire import routes

QUEUES = Kind("queue", "queues", routes.ADMIN_QUEUE_ACTIONS, "queues", QueueActionRequest)
_COLUMNS = (
    Column("QUEUE"),
    Column("TEAM", shrinks=True),
    Column("STATE"),
    Column("WAITING", right=True),
    Column("HELD BACK", right=True),
    Column("OLDEST"),
    Column("GRANTED", right=True),
    Column("RUNS", right=True),
    Column("DEAD", right=True),
    Column("ABLE", right=True),
    Column("WORKERS", right=True),
    Column("FREE", right=True),
    Column("IN"),
    Column("OUT"),
    Column("NOTE", shrinks=True),
)
_SETTINGS = {"tolerance": "tolerance_s", "timeout": "timeout_s", "kinds": "kinds", "max_running": "max_running"}


def list_queues(options: Namespace) -> None:
    """`queues list`."""
    query = query_of(text=options.text, team=options.team, sort=sort_of(options))
    empty = "No queue matches. A queue exists as soon as a worker serves it, or a task is dispatched to it."
    show_list(options, ListView(routes.ADMIN_QUEUES, QueuePage, _COLUMNS, _cells, empty, query))


def show_queue(options: Namespace) -> None:
    """`queues show`."""

    def lines(page: QueuePage, on: Screen) -> Iterator[str]:
        found = [row for row in page.items if row.queue == options.queue and options.team in (None, row.team)]
        if not found:
            raise Failure(f"there is no queue {options.queue!r}; 'edge-relay queues list' shows all")
        for row in found:
            yield from facts(_facts(row, on), on)

    show(options, View(routes.ADMIN_QUEUES, QueuePage, lines, query_of(queue=options.queue, team=options.team)))


def change_availability(options: Namespace) -> None:
    """`queues pause` and `resume`."""
    verb, action = availability(options, options.do)
    act(options, QUEUES, _targets(options), verb, action)


def set_settings(options: Namespace) -> None:
    """`queues set`. A setting that is not given stays."""
    given = {wire: getattr(options, name) for name, wire in _SETTINGS.items() if hasattr(options, name)}
    if not given:
        raise Failure("what is to change? --tolerance, --timeout, --kinds or --max-running", EXIT_USAGE)
    verb = Verb("change the settings of", "Changed settings", "They hold for jobs that are dispatched from now on.")
    act(options, QUEUES, _targets(options), verb, {"do": "set", **given})


def _targets(options: Namespace) -> Targets:
    if bool(options.queues) == options.all:
        raise Failure("name the queues, or give --all: one of them", EXIT_USAGE)
    if not options.all:
        return Targets(names=[query_of(queue=queue, team=options.team) for queue in dict.fromkeys(options.queues)])
    found = pages(connect(options), routes.ADMIN_QUEUES, query_of(team=options.team))
    names = [query_of(queue=row["queue"], team=row.get("team")) for page in found for row in page["items"]]
    if not names:
        raise Failure("there is no queue yet: it exists as soon as a worker serves it")
    return Targets(names=names, whose="" if options.team is None else f" of team {options.team}")


def _cells(row: QueueRow, on: Screen) -> tuple[str | Cell, ...]:
    order = row.settings.order
    return (
        row.queue,
        row.team or "-",
        _state(row),
        figure(row.waiting),
        figure(row.held_back),
        on.since(row.oldest_at),
        figure(row.granted),
        figure(row.running),
        Cell(figure(row.dead), Colour.BAD if row.dead else None),
        figure(row.workers_able),
        figure(row.workers),
        figure(row.free_slots),
        sparkline(row.in_per_minute),
        sparkline(row.out_per_minute),
        "-" if order is None else order_text(order, on),
    )


def _state(row: QueueRow) -> Cell:
    if not row.exists:
        return Cell("no such queue yet", Colour.WARNING)
    order = row.settings.order
    return Cell("active", Colour.GOOD) if order is None else Cell(order.availability.value, Colour.WARNING)


def _facts(row: QueueRow, on: Screen) -> Iterator[tuple[str, str]]:
    settings = row.settings
    yield "queue", row.queue if row.team is None else f"{row.queue} of team {row.team}"
    if not row.exists:
        yield "exists", "not yet: no worker serves it, and it had no job. Is the name right?"
    yield "state", "active" if settings.order is None else order_text(settings.order, on)
    if row.of_own_sites:
        yield "figures", "running, workers and slots of your sites; waiting of all"
    yield "waiting", f"{figure(row.waiting)}, and {figure(row.held_back)} held back"
    if row.oldest_at is not None:
        yield "oldest", f"waits since {on.ago(row.oldest_at)}" if on.exact else f"waits for {on.since(row.oldest_at)}"
    yield "granted", figure(row.granted)
    yield "running", figure(row.running)
    yield "dead", figure(row.dead)
    yield "workers", f"{row.workers:,}, of them {row.workers_able:,} able, with {row.free_slots:,} free slots"
    yield "redelivered", figure(row.redeliveries)
    of_executor = "the executor's setting"
    yield "tolerance", seconds(settings.tolerance_s, of_executor)
    yield "time-out", seconds(settings.timeout_s, of_executor)
    yield "kinds", "all" if settings.kinds is None else ", ".join(settings.kinds) or "none"
    yield "most running", "no limit" if settings.max_running is None else figure(settings.max_running)
