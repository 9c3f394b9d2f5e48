"""The command line: the commands and their options."""

import argparse
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"  # noqa: SLF001  # the type has no other name
_TTL = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)")
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30}
_EPILOG = "Exit status: 0 done, 1 refused or failed, 2 wrong usage or setting, 3 no answer (try again)."


def build(words: Sequence[str]) -> ArgumentParser:
    """The parser for these words; the options of `serve` are loaded only if `serve` is among them."""
    parser = ArgumentParser("edge-relay", description="A queue over HTTPS for tasks at the edge.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"edge-relay {version('edge-relay')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_serve(commands, with_settings="serve" in words[:1])
    _add_standalone(commands)
    _add_doctor(commands, with_settings="doctor" in words[:1])
    _add_streams(commands)
    _add_access_token(commands)
    _add_nats_config(commands)
    _add_enroll_token(commands)
    _add_workers(commands)
    _add_jobs(commands)
    _add_why(commands)
    return parser


def _add_serve(commands: Subparsers, *, with_settings: bool) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve workers and operators",
        description="Serve one replica of the relay. Each option is also a variable: --nats-urls is RELAY_NATS_URLS.",
    )
    if with_settings:
        _add_settings(serve)
    serve.set_defaults(command=_lazily("serving", "serve"))


def _add_settings(parser: "ArgumentParser | argparse._ArgumentGroup") -> None:
    from edge_relay.settings import Settings

    for name, field in Settings.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text)


def _add_doctor(commands: Subparsers, *, with_settings: bool) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="find what keeps the relay from serving, and what to do about it",
        description="Check, on the relay's machine and with its settings, what a relay needs: secrets, NATS, streams, "
        "keepers, its own listeners. Changes nothing.",
        epilog="Exit status: 0 all is well (warnings too), 1 something failed, 2 wrong usage.",
    )
    doctor.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    doctor.add_argument("--public-url", metavar="URL", help="address of the relay for workers")
    doctor.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for the public URL")
    for role in ("admin", "operator"):
        text = f"of NATS user {role}: the doctor then checks as this user too"
        doctor.add_argument(f"--{role}-password-file", type=Path, metavar="FILE", help=text)
    doctor.add_argument("--json", action="store_true", help="print all findings as a JSON array")
    if with_settings:
        _add_settings(doctor.add_argument_group("settings of the relay, as for serve"))
    doctor.set_defaults(command=_lazily("doctor", "doctor"))


def _add_standalone(commands: Subparsers) -> None:
    text = "Run nats-server and the relay together, for a laptop, a demo, or a small site."
    one = commands.add_parser("standalone", help="run nats-server and the relay in one command", description=text)
    one.add_argument("--data-dir", type=Path, required=True, metavar="D", help="for everything; created if missing")
    one.add_argument("--host", help="address for workers; default 127.0.0.1")
    one.add_argument("--port", type=_port, help="for workers; default 8443 or the next free one, 0 for any")
    one.add_argument("--operator-port", type=_port, help="for operators; default 8444 or the next free one")
    one.add_argument("--nats-port", type=_port, help="of nats-server; default 4222 or the next free one")
    one.add_argument("--public-url", metavar="URL", help="address for workers, if not the listener's")
    one.add_argument("--tls-host", action="append", default=[], metavar="NAME", help="more names in the certificate")
    one.add_argument("--gate-url", action="append", default=[], metavar="URL", help="of a keeper's gate")
    one.add_argument("--nats-server", type=Path, metavar="PATH", help="the nats-server to run")
    one.set_defaults(command=_lazily("serving", "standalone"))


def _add_streams(commands: Subparsers) -> None:
    streams = _group(commands, "streams", "streams and buckets in NATS")
    apply = streams.add_parser("apply", help="create or update them; reports what the server refuses")
    kept = "without the option a stream keeps its value; the default is"
    apply.add_argument("--replicas", type=int, choices=(1, 3, 5), help=f"copies of each stream in a cluster; {kept} 1")
    apply.add_argument("--jobs-max", type=_bytes, metavar="SIZE", help=f"space for waiting jobs; {kept} 256M")
    apply.add_argument("--logs-max", type=_bytes, metavar="SIZE", help=f"space for logs; {kept} 2G")
    apply.add_argument("--logs-max-age-days", type=int, metavar="DAYS", help=f"age of the oldest logs; {kept} 14")
    _add_nats_options(apply)
    apply.set_defaults(command=_lazily("broker", "apply_streams"))


def _add_access_token(commands: Subparsers) -> None:
    tokens = _group(commands, "access-token", "tokens for operators")
    create = tokens.add_parser("create", help="create an access token for /v1/admin, directly in NATS; shown once")
    create.add_argument("--name", required=True, help="name of its owner; shown in the audit")
    create.add_argument(
        "--role",
        choices=("viewer", "operator", "admin"),
        default="admin",
        help="viewer reads, operator also acts on workers, queues and jobs, admin does everything; default admin",
    )
    create.add_argument("--sites", metavar="A,B", help="only workers of these sites; default all")
    create.add_argument("--queues", metavar="A,B", help="only jobs of these queues; default all")
    create.add_argument("--ttl", type=_seconds, metavar="T", help="30m, 12h or 90d; without it the token never expires")
    create.add_argument(
        "--for-airflow", action="store_true", help="for Airflow's api-server, which names the user it calls for"
    )
    create.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(create)
    create.set_defaults(command=_lazily("broker", "create_access_token"))
    listing = tokens.add_parser("list", help="list all access tokens by name, directly in NATS")
    listing.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(listing)
    listing.set_defaults(command=_lazily("broker", "list_access_tokens"))
    revoke = tokens.add_parser("revoke", help="end all access tokens of a name within seconds, directly in NATS")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(revoke)
    revoke.set_defaults(command=_lazily("broker", "revoke_access_token"))


def _add_nats_config(commands: Subparsers) -> None:
    text = "Print a nats-server configuration with the users of an installation. It holds their passwords."
    config = commands.add_parser("nats-config", help="print a nats-server configuration", description=text)
    config.add_argument(
        "--secrets-dir", type=Path, required=True, metavar="D", help="has ROLE.password for each role; see --create"
    )
    config.add_argument("--create", action="store_true", help="create missing password files")
    config.add_argument("--host", default="0.0.0.0", help="address to listen on")  # the users decide
    config.add_argument("--port", type=_port, default=4222)
    config.add_argument("--store-dir", type=Path, default=Path("/data/jetstream"), help="where JetStream keeps files")
    config.add_argument("--max-store", type=_bytes, metavar="N", help="space for JetStream: 500M, 8G; default no limit")
    config.add_argument("--monitor", metavar="HOST:PORT", help="serve /healthz, /jsz etc. without authentication")
    config.add_argument("--nodes", metavar="A,B,C", help="names of all servers of a cluster, as they reach each other")
    config.add_argument("--node", metavar="A", help="name of this server")
    config.set_defaults(command=_lazily("broker", "print_nats_config"))


def _add_enroll_token(commands: Subparsers) -> None:
    tokens = _group(commands, "enroll-token", "tokens for workers to enrol with")
    create = tokens.add_parser("create", help="create an enrolment token; it is shown once")
    create.add_argument("--queues", required=True, metavar="A,B", help="queues that the workers may serve")
    create.add_argument("--site", required=True, help="site of the workers; the prefix of their names")
    create.add_argument("--team", help="team that owns the queues")
    create.add_argument("--uses", type=int, default=1, metavar="N", help="how many workers may enrol; default 1")
    create.add_argument("--ttl", type=_seconds, default=3600, metavar="T", help="90s, 30m, 1h or 7d; default 1h")
    _add_admin_options(create)
    create.set_defaults(command=_lazily("admin", "create_enroll_token"))


def _add_workers(commands: Subparsers) -> None:
    workers = _group(commands, "workers", "workers and their credentials")
    listing = workers.add_parser("list", help="list all workers that ever enrolled")
    _add_admin_options(listing)
    listing.set_defaults(command=_lazily("admin", "list_workers"))
    revoke = workers.add_parser("revoke", help="end a worker's credential within seconds, for good")
    revoke.add_argument("worker", metavar="NAME")
    _add_admin_options(revoke)
    revoke.set_defaults(command=_lazily("admin", "revoke_worker"))
    resolve = workers.add_parser("resolve", help="decide which of two agents with one credential is the worker")
    resolve.add_argument("worker", metavar="NAME")
    resolve.add_argument("--keep", choices=("older", "newer"), required=True, help="'workers list' shows their hosts")
    _add_admin_options(resolve)
    resolve.set_defaults(command=_lazily("admin", "resolve_conflict"))


def _add_jobs(commands: Subparsers) -> None:
    jobs = _group(commands, "jobs", "jobs")
    show = jobs.add_parser("show", help="show a job's state, its holder, and how long the holder may be out of contact")
    show.add_argument("job", metavar="JOB")
    _add_admin_options(show)
    show.set_defaults(command=_lazily("jobs", "show_job"))
    cancel = jobs.add_parser("cancel", help="end a job in any state; for Airflow it is cancelled")
    cancel.add_argument("job", metavar="JOB")
    cancel.add_argument("--reason", required=True, help="shown in the task's log and in the audit")
    _add_admin_options(cancel)
    cancel.set_defaults(command=_lazily("jobs", "cancel_job"))
    redrive = jobs.add_parser("redrive", help="have a parked job republished")
    redrive.add_argument("job", metavar="JOB")
    _add_admin_options(redrive)
    redrive.set_defaults(command=_lazily("jobs", "redrive_job"))


def _add_why(commands: Subparsers) -> None:
    why = commands.add_parser(
        "why",
        help="say why a task or a job is still queued",
        description="Say why a task instance or a job has not started; the cause that blocks it most comes first.",
    )
    why.add_argument("dag", metavar="DAG", nargs="?", help="id of the DAG")
    why.add_argument("run", metavar="RUN", nargs="?", help="id of the run")
    why.add_argument("task", metavar="TASK", nargs="?", help="id of the task")
    why.add_argument("--map-index", type=int, default=-1, metavar="N", help="of a mapped task")
    why.add_argument("--job", metavar="JOB", help="a job, in place of DAG, RUN and TASK")
    _add_admin_options(why)
    why.set_defaults(command=_lazily("why", "show_causes"))


def _add_admin_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where the relay is")
    group.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    group.add_argument("--url", help="of the operators' listener; RELAY_ADMIN_URL")
    group.add_argument(
        "--access-token-file",
        type=Path,
        metavar="FILE",
        help="RELAY_ACCESS_TOKEN_FILE; RELAY_ACCESS_TOKEN",
    )
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for https://; RELAY_ADMIN_CA_FILE")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_nats_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("where NATS is")
    group.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    group.add_argument("--nats-urls", metavar="A,B", help="without credentials; RELAY_NATS_URLS")
    group.add_argument(
        "--admin-password-file",
        type=Path,
        metavar="FILE",
        help="of NATS user admin; RELAY_ADMIN_PASSWORD_FILE",
    )
    group.add_argument("--nats-ca-file", type=Path, metavar="FILE", help="for tls:// servers; RELAY_NATS_CA_FILE")


def _group(commands: Subparsers, name: str, text: str) -> Subparsers:
    group = commands.add_parser(name, help=text)
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _lazily(module: str, function: str) -> Callable[[Namespace], None]:
    def run(options: Namespace) -> None:
        from importlib import import_module

        command: Callable[[Namespace], None] = getattr(import_module(f"edge_relay.cli.{module}"), function)
        command(options)

    return run


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 500M or 8G")
    return int(match[1]) << _SHIFT[match[2]]


def _seconds(text: str) -> int:
    match = _TTL.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m, 1h or 7d")
    return int(match[1]) * _UNIT_S[match[2]]
