"""The command line: the commands and their options."""

import argparse
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edge_relay.cli import fleet_arguments
from edge_relay.cli import option_types as types
from edge_relay.cli.lazily import Subparsers, group, lazily
from edge_relay.cli.submit.options import add_submit

_EPILOG = "Exit status: 0 done, 1 refused or failed, 2 wrong usage or setting, 3 no answer (try again)."


def build(words: Sequence[str] | None) -> ArgumentParser:
    """The parser for these words: the options of a command are made only if it is the first of them.

    Args:
        words: None for the whole command line.
    """
    parser = ArgumentParser("edge-relay", description="A queue over HTTPS for tasks at the edge.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"edge-relay {version('edge-relay')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, add in fleet_arguments.GROUPS:
        if words is None or name in words[:1]:
            add(commands)
        else:
            commands.add_parser(name, help=fleet_arguments.HELP[name])
    add_submit(commands)
    _add_context(commands)
    _add_completion(commands)
    _add_doctor(commands, with_settings=words is None or "doctor" in words[:1])
    _add_standalone(commands)
    _add_serve(commands, with_settings=words is None or "serve" in words[:1])
    _add_streams(commands)
    _add_access_token(commands)
    _add_nats_config(commands)
    return parser


def _add_serve(commands: Subparsers, *, with_settings: bool) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve workers and operators",
        description="Serve one replica of the relay. Each option is also a variable: --nats-urls is RELAY_NATS_URLS.",
    )
    if with_settings:
        _add_settings(serve)
    serve.set_defaults(command=lazily("serving", "serve"))


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
    if not with_settings:
        doctor.add_argument("--public-url", metavar="URL", help="address of the relay for workers")
    doctor.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for the public URL")
    for role in ("admin", "operator"):
        text = f"of NATS user {role}: the doctor then checks as this user too"
        doctor.add_argument(f"--{role}-password-file", type=Path, metavar="FILE", help=text)
    doctor.add_argument("--json", action="store_true", help="print all findings as a JSON array")
    if with_settings:
        _add_settings(doctor.add_argument_group("settings of the relay, as for serve"))
    doctor.set_defaults(command=lazily("doctor", "doctor"))


def _add_standalone(commands: Subparsers) -> None:
    text = "Run nats-server and the relay together, for a laptop, a demo, or a small site."
    one = commands.add_parser("standalone", help="run nats-server and the relay in one command", description=text)
    one.add_argument("--data-dir", type=Path, required=True, metavar="D", help="for everything; created if missing")
    one.add_argument("--host", help="address for workers; default 127.0.0.1")
    one.add_argument("--port", type=types.port, help="for workers; default 8443 or the next free one, 0 for any")
    one.add_argument("--operator-port", type=types.port, help="for operators; default 8444 or the next free one")
    one.add_argument("--nats-port", type=types.port, help="of nats-server; default 4222 or the next free one")
    one.add_argument("--public-url", metavar="URL", help="address for workers, if not the listener's")
    one.add_argument("--tls-host", action="append", default=[], metavar="NAME", help="more names in the certificate")
    one.add_argument("--gate-url", action="append", default=[], metavar="URL", help="of a keeper's gate")
    one.add_argument("--nats-server", type=Path, metavar="PATH", help="the nats-server to run")
    one.set_defaults(command=lazily("serving", "standalone"))


def _add_streams(commands: Subparsers) -> None:
    streams = group(commands, "streams", "streams and buckets in NATS")
    apply = streams.add_parser("apply", help="create or update them; reports what the server refuses")
    kept = "without the option a stream keeps its value; the default is"
    apply.add_argument("--replicas", type=int, choices=(1, 3, 5), help=f"copies of each stream in a cluster; {kept} 1")
    apply.add_argument("--jobs-max", type=types.size, metavar="SIZE", help=f"space for waiting jobs; {kept} 256M")
    apply.add_argument("--logs-max", type=types.size, metavar="SIZE", help=f"space for logs; {kept} 2G")
    apply.add_argument("--logs-max-age-days", type=int, metavar="DAYS", help=f"age of the oldest logs; {kept} 14")
    _add_nats_options(apply)
    apply.set_defaults(command=lazily("broker", "apply_streams"))


def _add_access_token(commands: Subparsers) -> None:
    tokens = group(commands, "access-token", "tokens for operators")
    create = tokens.add_parser("create", help="create an access token, directly in NATS; shown once")
    create.add_argument("--name", required=True, help="name of its owner; shown in the audit")
    create.add_argument(
        "--role",
        choices=fleet_arguments.ROLES,
        default="admin",
        help="producer submits jobs to --queues, viewer reads, operator also acts on workers, queues and jobs, admin "
        "does everything; default admin",
    )
    create.add_argument("--sites", metavar="A,B", help="only workers of these sites; default all")
    create.add_argument("--queues", metavar="A,B", help="only jobs of these queues; default all")
    text = "30m, 12h or 90d; without it the token never expires"
    create.add_argument("--ttl", type=types.seconds, metavar="T", help=text)
    create.add_argument(
        "--for-airflow", action="store_true", help="for Airflow's api-server, which names the user it calls for"
    )
    create.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(create)
    create.set_defaults(command=lazily("broker", "create_access_token"))
    listing = tokens.add_parser("list", help="list all access tokens by name, directly in NATS")
    listing.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(listing)
    listing.set_defaults(command=lazily("broker", "list_access_tokens"))
    revoke = tokens.add_parser("revoke", help="end all access tokens of a name within seconds, directly in NATS")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("--json", action="store_true", help="print JSON")
    _add_nats_options(revoke)
    revoke.set_defaults(command=lazily("broker", "revoke_access_token"))


def _add_nats_config(commands: Subparsers) -> None:
    text = "Print a nats-server configuration with the users of an installation. It holds their passwords."
    config = commands.add_parser("nats-config", help="print a nats-server configuration", description=text)
    config.add_argument(
        "--secrets-dir", type=Path, required=True, metavar="D", help="has ROLE.password for each role; see --create"
    )
    config.add_argument("--create", action="store_true", help="create missing password files")
    config.add_argument("--host", default="0.0.0.0", help="address to listen on")  # the users decide
    config.add_argument("--port", type=types.port, default=4222)
    config.add_argument("--store-dir", type=Path, default=Path("/data/jetstream"), help="where JetStream keeps files")
    text = "space for JetStream: 500M, 8G; default no limit"
    config.add_argument("--max-store", type=types.size, metavar="N", help=text)
    config.add_argument("--monitor", metavar="HOST:PORT", help="serve /healthz, /jsz etc. without authentication")
    config.add_argument("--nodes", metavar="A,B,C", help="names of all servers of a cluster, as they reach each other")
    config.add_argument("--node", metavar="A", help="name of this server")
    config.set_defaults(command=lazily("broker", "print_nats_config"))


def _add_context(commands: Subparsers) -> None:
    context = group(commands, "context", "named relays, kept in ~/.config/edge-relay/config.toml")
    listing = context.add_parser("list", help="list the contexts; * marks the current one")
    listing.set_defaults(command=lazily("contexts", "list_contexts"))
    use = context.add_parser("use", help="make a context the current one")
    use.add_argument("name", metavar="NAME")
    use.set_defaults(command=lazily("contexts", "use_context"))
    add = context.add_parser("add", help="add a context, or replace it; the first one becomes the current one")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--url", required=True, help="of the operators' listener")
    text = "with the access token; the token itself is not copied"
    add.add_argument("--access-token-file", type=Path, required=True, metavar="FILE", help=text)
    add.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for https://")
    add.set_defaults(command=lazily("contexts", "add_context"))
    remove = context.add_parser("remove", help="remove a context")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(command=lazily("contexts", "remove_context"))
    for parser in (listing, use, add, remove):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_completion(commands: Subparsers) -> None:
    completion = commands.add_parser(
        "completion",
        help="print the completion script for a shell",
        description="For bash: edge-relay completion bash > ~/.local/share/bash-completion/completions/edge-relay",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(command=lazily("completion", "print_completion"))


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
