"""The commands that speak with NATS directly, or write its configuration."""

from argparse import ArgumentParser
from pathlib import Path

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.shared import ROLES


def add_streams(commands: Subparsers) -> None:
    """`streams`."""
    streams = group(commands, "streams", "streams and buckets in NATS")
    apply = streams.add_parser("apply", help="create or update them; reports what the server refuses")
    kept = "without the option a stream keeps its value; the default is"
    apply.add_argument("--replicas", type=int, choices=(1, 3, 5), help=f"copies of each stream in a cluster; {kept} 1")
    apply.add_argument("--jobs-max", type=types.size, metavar="SIZE", help=f"space for waiting jobs; {kept} 256M")
    apply.add_argument("--logs-max", type=types.size, metavar="SIZE", help=f"space for logs; {kept} 2G")
    apply.add_argument("--bundles-max", type=types.size, metavar="SIZE", help=f"space for DAG code; {kept} 1G")
    apply.add_argument("--logs-max-age-days", type=int, metavar="DAYS", help=f"age of the oldest logs; {kept} 14")
    _add_nats_options(apply)
    apply.set_defaults(command=lazily("broker", "apply_streams"))


def add_access_token(commands: Subparsers) -> None:
    """`access-token`."""
    tokens = group(commands, "access-token", "tokens for operators")
    create = tokens.add_parser("create", help="create an access token, directly in NATS; shown once")
    create.add_argument("--name", required=True, help="name of its owner; shown in the audit")
    create.add_argument(
        "--role",
        choices=ROLES,
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


def add_nats_config(commands: Subparsers) -> None:
    """`nats-config`."""
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
