"""The commands about workers, sites and queues, and the overview."""

from argparse import SUPPRESS, ArgumentParser
from functools import partial

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.shared import (
    SITE_STATES,
    WORKER_STATES,
    add_change_options,
    add_read_options,
    add_until,
    reader,
)

OVERVIEW = "the fleet in one look, and what to look at"
WORKERS = "workers: what they do, and what they should do"
SITES = "sites: all their workers at once, also those that enrol later"
QUEUES = "queues: what waits, and their settings"
_ORDERS = {
    "pause": "take no new jobs; what runs goes on",
    "resume": "end a pause, a drain or a stop",
    "drain": "take no new jobs; the agent exits when its jobs have ended",
    "stop": "stop the jobs that run, then the agent",
}


def add_overview(commands: Subparsers) -> None:
    """`overview`."""
    overview = commands.add_parser("overview", help=OVERVIEW)
    add_read_options(overview)
    overview.set_defaults(command=lazily("fleet.overview", "show_overview"))


def add_workers(commands: Subparsers) -> None:
    """`workers`."""
    workers = group(commands, "workers", WORKERS)
    listing = reader(workers, "list", "list workers", "workers", "list_workers", is_list=True)
    _add_worker_filters(listing)
    show = reader(workers, "show", "show one worker: jobs, settings, history", "workers", "show_worker")
    show.add_argument("worker", metavar="NAME")
    for do, text in _ORDERS.items():
        order = _worker_action(workers, do, text, "change_availability")
        add_until(order, do)
    queues = _worker_action(workers, "queues", "change which queues they serve", "set_queues")
    queues.add_argument("--set", type=types.names, metavar="A,B", help="exactly these")
    queues.add_argument("--add", type=types.names, metavar="A,B", help="these as well")
    queues.add_argument("--remove", type=types.names, metavar="A,B", help="these no longer")
    queues.add_argument("--as-enrolled", action="store_true", help="those of the enrolment again")
    slots = _worker_action(workers, "slots", "change how many jobs they run at once", "set_slots")
    text = "a number, or 'default' for the worker's own setting"
    slots.add_argument("--set", type=types.count_or_default, required=True, metavar="N", help=text)
    labels = _worker_action(workers, "labels", "change their labels", "set_labels")
    labels.add_argument("--set", type=types.label, action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    labels.add_argument("--remove", action="append", default=[], metavar="KEY", help="repeatable")
    _worker_action(workers, "rotate", "have them make new secrets", "rotate")
    _worker_action(workers, "revoke", "end their credentials within seconds, for good", "revoke")
    resolve = workers.add_parser("resolve", help="decide which of two agents with one credential is the worker")
    resolve.add_argument("worker", metavar="NAME")
    resolve.add_argument("--keep", choices=("older", "newer"), required=True, help="'workers list' shows their hosts")
    add_change_options(resolve)
    resolve.set_defaults(command=lazily("fleet.workers", "resolve_conflict"))
    _worker_action(workers, "remove", "remove revoked workers from all lists; their names become free", "remove")


def add_sites(commands: Subparsers) -> None:
    """`sites`."""
    sites = group(commands, "sites", SITES)
    listing = reader(sites, "list", "list sites", "sites", "list_sites", is_list=True)
    listing.add_argument("--state", choices=SITE_STATES, help="only these")
    listing.add_argument("--text", help="part of the name")
    for do, text in _ORDERS.items():
        order = sites.add_parser(do, help=text, description=f"The workers of a site {text}.")
        order.add_argument("sites", nargs="*", metavar="SITE")
        order.add_argument("--all", action="store_true", help="every site that there is now")
        add_until(order, do)
        add_change_options(order)
        order.set_defaults(command=lazily("fleet.sites", "change_availability"))


def add_queues(commands: Subparsers) -> None:
    """`queues`."""
    queues = group(commands, "queues", QUEUES)
    listing = reader(queues, "list", "list queues", "queues", "list_queues", is_list=True)
    listing.add_argument("--text", help="part of the name")
    listing.add_argument("--team", help="only of this team")
    show = reader(queues, "show", "show one queue and its settings", "queues", "show_queue")
    show.add_argument("queue", metavar="QUEUE")
    show.add_argument("--team", help="the team that owns it")
    for do, text in (("pause", "grant no job of them; what runs goes on"), ("resume", "end the pause")):
        order = queues.add_parser(do, help=text)
        _add_queue_targets(order)
        add_until(order, do)
        order.set_defaults(command=lazily("fleet.queues", "change_availability"))
    settings = queues.add_parser(
        "set",
        help="change their settings",
        description="A setting that is not named stays. 'default' returns it to the executor's setting.",
    )
    _add_queue_targets(settings)
    add = partial(settings.add_argument, default=SUPPRESS)
    add("--tolerance", type=types.seconds_or_default, metavar="T", help="offline tolerance: 90s, 30m, 12h, 7d")
    add("--timeout", type=types.seconds_or_default, metavar="T", help="how long a job may wait")
    add("--kinds", type=types.names_or_default, metavar="A,B", help="accepted: task, callback, connection_test")
    add("--max-running", type=types.count_or_default, metavar="N", help="how many jobs may run at once")
    settings.set_defaults(command=lazily("fleet.queues", "set_settings"))


def _worker_action(commands: Subparsers, name: str, text: str, function: str) -> ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("workers", nargs="*", metavar="NAME")
    _add_worker_filters(parser)
    parser.add_argument("--all", action="store_true", help="every worker")
    add_change_options(parser)
    parser.set_defaults(command=lazily("fleet.workers", function))
    return parser


def _add_worker_filters(parser: ArgumentParser) -> None:
    where = parser.add_argument_group("which workers", "those that match all that is given")
    where.add_argument("--site")
    where.add_argument("--queue", help="that serve it")
    where.add_argument("--state", choices=WORKER_STATES)
    where.add_argument("--label", metavar="KEY[=VALUE]")
    where.add_argument("--text", help="part of name, site, host or a label")


def _add_queue_targets(parser: ArgumentParser) -> None:
    parser.add_argument("queues", nargs="*", metavar="QUEUE")
    parser.add_argument("--team", help="the team that owns them")
    parser.add_argument("--all", action="store_true", help="every queue that there is now")
    add_change_options(parser)
