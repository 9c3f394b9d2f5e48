"""Options that several commands of operators have."""

from argparse import ArgumentParser
from pathlib import Path

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, lazily

WORKER_STATES = ("never seen", "online", "unhealthy", "paused", "draining", "offline", "conflict", "revoked")
SITE_STATES = ("empty", "online", "degraded", "offline")
JOB_STATES = ("waiting", "running", "stopping", "ended")
ROLES = ("producer", "viewer", "operator", "admin")
TARGET_KINDS = ("worker", "site", "queue", "job", "token")
LATER = "18:00, 'tomorrow 8:00', 2026-12-01T08:00 or 2h; local time unless an offset is given"
"""What an option for a time in the future accepts."""


def add_relay_options(parser: ArgumentParser) -> None:
    """Where the relay is, and `--json`: for every command that calls `/v1/admin`."""
    where = parser.add_argument_group("where the relay is")
    where.add_argument("--context", metavar="NAME", help="of 'edge-relay context list', instead of the current one")
    where.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    where.add_argument("--url", help="of the operators' listener; RELAY_ADMIN_URL")
    text = "RELAY_ACCESS_TOKEN_FILE; RELAY_ACCESS_TOKEN"
    where.add_argument("--access-token-file", type=Path, metavar="FILE", help=text)
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for https://; RELAY_ADMIN_CA_FILE")
    parser.add_argument("--json", action="store_true", help="print JSON")


def reader(
    commands: Subparsers,
    name: str,
    text: str,
    module: str,
    function: str,
    *,
    is_list: bool = False,
    sorts: bool = True,
) -> ArgumentParser:
    """A command that reads, done by a function of a module of `cli.fleet`; `sorts` and `is_list` as for its options."""
    parser = commands.add_parser(name, help=text)
    add_read_options(parser, is_list=is_list, sorts=sorts)
    parser.set_defaults(command=lazily(f"fleet.{module}", function))
    return parser


def add_read_options(
    parser: ArgumentParser, *, is_list: bool = False, sorts: bool = True, limit: int | None = None
) -> None:
    """How a command shows what it reads, and where the relay is; `sorts`: a list's order may be chosen."""
    if is_list:
        text = "at most so many rows" + ("" if limit is None else f"; default {limit}")
        parser.add_argument("--limit", type=types.positive, default=limit, metavar="N", help=text)
        if sorts:
            parser.add_argument("--sort", metavar="FIELD", help="by a field of --json, for example last_poll_at")
            parser.add_argument("--reverse", action="store_true", help="the last first")
    parser.add_argument("--watch", action="store_true", help="refresh every 2 s until Ctrl-C")
    parser.add_argument("--utc", action="store_true", help="times as ISO 8601 in UTC instead of '5 min ago'")
    add_relay_options(parser)


def add_job_filters(parser: ArgumentParser) -> None:
    """Which jobs a list shows, or an action is for."""
    where = parser.add_argument_group("which jobs", "those that match all that is given")
    where.add_argument("--queue")
    where.add_argument("--worker")
    where.add_argument("--dag", dest="dag_id", metavar="DAG")
    where.add_argument("--run", dest="run_id", metavar="RUN")


def add_until(parser: ArgumentParser, do: str) -> None:
    """Which order of availability, and its end; the end of an order has none."""
    parser.set_defaults(do=do)
    if do != "resume":
        parser.add_argument("--until", type=types.instant, metavar="WHEN", help=LATER)


def add_change_options(parser: ArgumentParser, *, reason: str = "kept in the audit") -> None:
    """What each change needs; `reason` says what becomes of its reason."""
    parser.add_argument("--reason", required=True, metavar="WHY", help=reason)
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--yes", action="store_true", help="do not ask before several are changed")
    add_relay_options(parser)
