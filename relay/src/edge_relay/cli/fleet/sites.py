"""Commands about sites."""

from argparse import Namespace

from edge_relay.cli.admin_client import connect
from edge_relay.cli.fleet.actions import Kind, Targets, act, availability, can_ask
from edge_relay.cli.fleet.rows import SITE_COLOURS, figure, order_text
from edge_relay.cli.fleet.views import ListView, pages, query_of, show_list, sort_of
from edge_relay.cli.output import EXIT_USAGE, Failure
from edge_relay.cli.show.screen import Cell, Screen
from edge_relay.cli.show.table import Column
from edge_schemas.admin.actions import SiteActionRequest
from edge_schemas.admin.rows import SitePage, SiteRow
from edge_schemas.wire import routes

SITES = Kind("site", "sites", routes.ADMIN_SITE_ACTIONS, "sites", SiteActionRequest)
_COLUMNS = (
    Column("SITE"),
    Column("STATE"),
    Column("FOR"),
    Column("WORKERS", right=True),
    Column("ONLINE", right=True),
    Column("OFFLINE", right=True),
    Column("PAUSED", right=True),
    Column("RUNS", right=True),
    Column("SLOTS", right=True),
    Column("NOTE", shrinks=True),
)


def list_sites(options: Namespace) -> None:
    """`sites list`."""
    query = query_of(state=options.state, text=options.text, sort=sort_of(options))
    empty = "No site matches. A site exists as soon as a worker enrols at it."
    show_list(options, ListView(routes.ADMIN_SITES, SitePage, _COLUMNS, _cells, empty, query))


def change_availability(options: Namespace) -> None:
    """`sites pause`, `resume`, `drain` and `stop`."""
    verb, action = availability(options, options.do)
    if bool(options.sites) == options.all:
        raise Failure("name the sites, or give --all: one of them", EXIT_USAGE)
    workers: dict[str, int] = {}
    if options.all or can_ask(options):
        found = pages(connect(options), routes.ADMIN_SITES, {})
        workers = {row["site"]: row["workers"] for page in found for row in page["items"]}
    names = list(workers) if options.all else list(dict.fromkeys(options.sites))
    if not names:
        raise Failure("there is no site yet: it exists as soon as a worker enrols at it")
    count = sum(workers.get(name, 0) for name in names)
    targets = Targets(names=names, whose=f" with {count:,} workers", asks=count > 1 and options.do != "resume")
    act(options, SITES, targets, verb, action)


def _cells(row: SiteRow, on: Screen) -> tuple[str | Cell, ...]:
    parts = []
    if row.lost_together:
        parts.append(f"uplink lost: {row.lost_together} workers vanished together")
    if row.order is not None:
        parts.append(order_text(row.order, on))
    return (
        row.site,
        Cell(row.state.value, SITE_COLOURS[row.state]),
        on.since(row.since),
        figure(row.workers),
        figure(row.online),
        figure(row.offline),
        figure(row.paused),
        figure(row.running),
        figure(row.slots),
        "; ".join(parts) or "-",
    )
