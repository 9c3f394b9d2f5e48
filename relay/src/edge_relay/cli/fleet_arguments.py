"""The command line of what operators read and change through `/v1/admin`."""

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edge_relay.cli import option_types as types
from edge_relay.cli.lazily import Subparsers, group, lazily

WORKER_STATES = ("never seen", "online", "unhealthy", "paused", "draining", "offline", "conflict", "revoked")
SITE_STATES = ("empty", "online", "degraded", "offline")
JOB_STATES = ("waiting", "running", "stopping", "ended")
ROLES = ("producer", "viewer", "operator", "admin")
TARGET_KINDS = ("worker", "site", "queue", "job", "token")
HELP = {
    "overview": "the fleet in one look, and what to look at",
    "workers": "workers: what they do, and what they should do",
    "sites": "sites: all their workers at once, also those that enrol later",
    "queues": "queues: what waits, and their settings",
    "jobs": "jobs: where they are, and their end",
    "dead": "parked jobs: released too often, they wait for a decision",
    "why": "say why a task or a job is still queued",
    "tokens": "access tokens of operators, and the enrolment tokens that there are",
    "enroll-token": "tokens for workers to enrol with",
    "audit": "list who changed what and why, the newest first",
}
"""What each group is about."""
_ORDERS = {
    "pause": "take no new jobs; what runs goes on",
    "resume": "end a pause, a drain or a stop",
    "drain": "take no new jobs; the agent exits when its jobs have ended",
    "stop": "stop the jobs that run, then the agent",
}
_LATER = "18:00, 'tomorrow 8:00', 2026-12-01T08:00 or 2h; local time unless an offset is given"


def add_workers(commands: Subparsers) -> None:
    """`workers`."""
    workers = group(commands, "workers", HELP["workers"])
    listing = _reader(workers, "list", "list workers", "workers", "list_workers", is_list=True)
    _add_worker_filters(listing)
    show = _reader(workers, "show", "show one worker: jobs, settings, history", "workers", "show_worker")
    show.add_argument("worker", metavar="NAME")
    for do, text in _ORDERS.items():
        order = _worker_action(workers, do, text, "change_availability")
        _add_until(order, do)
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
    _add_change_options(resolve)
    resolve.set_defaults(command=lazily("fleet.workers", "resolve_conflict"))
    _worker_action(workers, "remove", "remove revoked workers from all lists; their names become free", "remove")


def add_sites(commands: Subparsers) -> None:
    """`sites`."""
    sites = group(commands, "sites", HELP["sites"])
    listing = _reader(sites, "list", "list sites", "sites", "list_sites", is_list=True)
    listing.add_argument("--state", choices=SITE_STATES, help="only these")
    listing.add_argument("--text", help="part of the name")
    for do, text in _ORDERS.items():
        order = sites.add_parser(do, help=text, description=f"The workers of a site {text}.")
        order.add_argument("sites", nargs="*", metavar="SITE")
        order.add_argument("--all", action="store_true", help="every site that there is now")
        _add_until(order, do)
        _add_change_options(order)
        order.set_defaults(command=lazily("fleet.sites", "change_availability"))


def add_queues(commands: Subparsers) -> None:
    """`queues`."""
    queues = group(commands, "queues", HELP["queues"])
    listing = _reader(queues, "list", "list queues", "queues", "list_queues", is_list=True)
    listing.add_argument("--text", help="part of the name")
    listing.add_argument("--team", help="only of this team")
    show = _reader(queues, "show", "show one queue and its settings", "queues", "show_queue")
    show.add_argument("queue", metavar="QUEUE")
    show.add_argument("--team", help="the team that owns it")
    for do, text in (("pause", "grant no job of them; what runs goes on"), ("resume", "end the pause")):
        order = queues.add_parser(do, help=text)
        _add_queue_targets(order)
        _add_until(order, do)
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


def add_jobs(commands: Subparsers) -> None:
    """`jobs`."""
    jobs = group(commands, "jobs", HELP["jobs"])
    listing = _reader(jobs, "list", "list jobs", "jobs", "list_jobs", is_list=True)
    _add_job_filters(listing)
    listing.add_argument("--site", help="only at this site")
    listing.add_argument("--text", help="part of id or task")
    listing.add_argument("--state", choices=JOB_STATES, help="only these")
    show = _reader(jobs, "show", "show a job: state, holder, timeline", "jobs", "show_job")
    show.add_argument("job", metavar="JOB")
    cancel = jobs.add_parser("cancel", help="end jobs in any state; for Airflow they are cancelled")
    cancel.add_argument("jobs", nargs="*", metavar="JOB")
    _add_job_filters(cancel)
    _add_change_options(cancel, reason="shown in the task's log and kept in the audit")
    cancel.set_defaults(command=lazily("fleet.jobs", "cancel"))


def add_dead(commands: Subparsers) -> None:
    """`dead`."""
    dead = group(commands, "dead", HELP["dead"])
    listing = _reader(dead, "list", "list parked jobs, with the reason", "jobs", "list_dead", is_list=True)
    _add_job_filters(listing)
    for name, text in (("redrive", "publish them again"), ("purge", "end them and remove their history")):
        action = dead.add_parser(name, help=text)
        action.add_argument("jobs", nargs="*", metavar="JOB")
        _add_job_filters(action)
        action.add_argument("--all", action="store_true", help="every parked job")
        _add_change_options(action)
        action.set_defaults(command=lazily("fleet.jobs", name))


def add_why(commands: Subparsers) -> None:
    """`why`."""
    why = commands.add_parser(
        "why",
        help=HELP["why"],
        description="Say why a task instance or a job has not started; the cause that blocks it most comes first.",
    )
    why.add_argument("dag", metavar="DAG", nargs="?", help="id of the DAG")
    why.add_argument("run", metavar="RUN", nargs="?", help="id of the run")
    why.add_argument("task", metavar="TASK", nargs="?", help="id of the task")
    why.add_argument("--map-index", type=int, default=-1, metavar="N", help="of a mapped task")
    why.add_argument("--job", metavar="JOB", help="a job, in place of DAG, RUN and TASK")
    add_relay_options(why)
    why.set_defaults(command=lazily("why", "show_causes"))


def add_enroll_token(commands: Subparsers) -> None:
    """`enroll-token`."""
    tokens = group(commands, "enroll-token", HELP["enroll-token"])
    create = tokens.add_parser("create", help="create an enrolment token; it is shown once")
    create.add_argument(
        "--queues", type=types.names, required=True, metavar="A,B", help="queues that the workers may serve"
    )
    create.add_argument("--site", required=True, help="site of the workers; the prefix of their names")
    create.add_argument("--team", help="team that owns the queues")
    create.add_argument("--uses", type=int, default=1, metavar="N", help="how many workers may enrol; default 1")
    create.add_argument("--ttl", type=types.seconds, default=3600, metavar="T", help="90s, 30m, 1h or 7d; default 1h")
    add_relay_options(create)
    create.set_defaults(command=lazily("fleet.tokens", "create_enroll_token"))


def add_tokens(commands: Subparsers) -> None:
    """`tokens`."""
    tokens = group(commands, "tokens", HELP["tokens"])
    listing = _reader(tokens, "list", "list tokens of both kinds", "tokens", "list_tokens", is_list=True, sorts=False)
    listing.add_argument("--kind", choices=("access", "enroll"), help="only of operators, or only for workers")
    create = tokens.add_parser(
        "create",
        help="create an access token for an operator or a producer; it is shown once",
        description="Create an access token through the relay, which needs one of the role admin. The first one of an "
        "installation is made by 'edge-relay access-token create', directly in NATS. Tokens for workers are made by "
        "'edge-relay enroll-token create'.",
    )
    create.add_argument("--name", required=True, help="name of its owner; shown in the audit")
    create.add_argument("--role", choices=ROLES, default="viewer", help="default viewer; a producer submits jobs")
    create.add_argument("--sites", type=types.names, metavar="A,B", help="only for these sites")
    create.add_argument(
        "--queues", type=types.names, metavar="A,B", help="only for these queues; a producer needs at least one"
    )
    text = "30m, 12h, 90d or 'never'; default 90d"
    create.add_argument("--ttl", type=types.seconds_or_never, default=90 * 86400, metavar="T", help=text)
    text = "its owner is an Airflow api-server, which names the user that it calls for"
    create.add_argument("--for-airflow", action="store_true", help=text)
    create.add_argument("--reason", required=True, help="kept in the audit")
    add_relay_options(create)
    create.set_defaults(command=lazily("fleet.tokens", "create_access_token"))
    revoke = tokens.add_parser("revoke", help="end a token of either kind within seconds")
    revoke.add_argument("id", metavar="ID", help="as 'tokens list' shows it")
    revoke.add_argument("--kind", choices=("access", "enroll"), help="saves looking for it")
    revoke.add_argument("--reason", required=True, help="kept in the audit")
    add_relay_options(revoke)
    revoke.set_defaults(command=lazily("fleet.tokens", "revoke_token"))


def add_audit(commands: Subparsers) -> None:
    """`audit`."""
    audit = commands.add_parser("audit", help=HELP["audit"])
    audit.add_argument("--kind", choices=TARGET_KINDS, help="only about these")
    audit.add_argument("--target", metavar="NAME", help="only about this worker, site, queue, job or token")
    audit.add_argument("--action", metavar="ACTION", help="only this one, for example worker-paused")
    audit.add_argument("--by", metavar="NAME", help="only by this operator or worker")
    audit.add_argument("--text", help="part of action, target, site, queue, name or reason")
    audit.add_argument("--since", type=types.past_instant, metavar="WHEN", help="08:00, 2026-12-01T08:00, or 2h ago")
    audit.add_argument("--until", type=types.past_instant, metavar="WHEN", help="the same")
    _add_read_options(audit, is_list=True, sorts=False, limit=50)
    audit.set_defaults(command=lazily("fleet.audit", "list_events"))


def add_overview(commands: Subparsers) -> None:
    """`overview`."""
    overview = commands.add_parser("overview", help=HELP["overview"])
    _add_read_options(overview)
    overview.set_defaults(command=lazily("fleet.overview", "show_overview"))


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


def _reader(
    commands: Subparsers,
    name: str,
    text: str,
    module: str,
    function: str,
    *,
    is_list: bool = False,
    sorts: bool = True,
) -> ArgumentParser:
    parser = commands.add_parser(name, help=text)
    _add_read_options(parser, is_list=is_list, sorts=sorts)
    parser.set_defaults(command=lazily(f"fleet.{module}", function))
    return parser


def _add_read_options(
    parser: ArgumentParser, *, is_list: bool = False, sorts: bool = True, limit: int | None = None
) -> None:
    if is_list:
        text = "at most so many rows" + ("" if limit is None else f"; default {limit}")
        parser.add_argument("--limit", type=types.positive, default=limit, metavar="N", help=text)
        if sorts:
            parser.add_argument("--sort", metavar="FIELD", help="by a field of --json, for example last_poll_at")
            parser.add_argument("--reverse", action="store_true", help="the last first")
    parser.add_argument("--watch", action="store_true", help="refresh every 2 s until Ctrl-C")
    parser.add_argument("--utc", action="store_true", help="times as ISO 8601 in UTC instead of '5 min ago'")
    add_relay_options(parser)


def _worker_action(commands: Subparsers, name: str, text: str, function: str) -> ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("workers", nargs="*", metavar="NAME")
    _add_worker_filters(parser)
    parser.add_argument("--all", action="store_true", help="every worker")
    _add_change_options(parser)
    parser.set_defaults(command=lazily("fleet.workers", function))
    return parser


def _add_worker_filters(parser: ArgumentParser) -> None:
    where = parser.add_argument_group("which workers", "those that match all that is given")
    where.add_argument("--site")
    where.add_argument("--queue", help="that serve it")
    where.add_argument("--state", choices=WORKER_STATES)
    where.add_argument("--label", metavar="KEY[=VALUE]")
    where.add_argument("--text", help="part of name, site, host or a label")


def _add_job_filters(parser: ArgumentParser) -> None:
    where = parser.add_argument_group("which jobs", "those that match all that is given")
    where.add_argument("--queue")
    where.add_argument("--worker")
    where.add_argument("--dag", dest="dag_id", metavar="DAG")
    where.add_argument("--run", dest="run_id", metavar="RUN")


def _add_queue_targets(parser: ArgumentParser) -> None:
    parser.add_argument("queues", nargs="*", metavar="QUEUE")
    parser.add_argument("--team", help="the team that owns them")
    parser.add_argument("--all", action="store_true", help="every queue that there is now")
    _add_change_options(parser)


def _add_until(parser: ArgumentParser, do: str) -> None:
    parser.set_defaults(do=do)
    if do != "resume":
        parser.add_argument("--until", type=types.instant, metavar="WHEN", help=_LATER)


def _add_change_options(parser: ArgumentParser, *, reason: str = "kept in the audit") -> None:
    parser.add_argument("--reason", required=True, metavar="WHY", help=reason)
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--yes", action="store_true", help="do not ask before several are changed")
    add_relay_options(parser)


Adder = Callable[[Subparsers], None]
GROUPS: Sequence[tuple[str, Adder]] = (
    ("overview", add_overview),
    ("workers", add_workers),
    ("sites", add_sites),
    ("queues", add_queues),
    ("jobs", add_jobs),
    ("dead", add_dead),
    ("why", add_why),
    ("tokens", add_tokens),
    ("enroll-token", add_enroll_token),
    ("audit", add_audit),
)
"""The groups, with what adds each."""
