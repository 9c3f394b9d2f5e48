"""The commands about tokens and the audit."""

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.shared import ROLES, TARGET_KINDS, add_read_options, add_relay_options, reader

TOKENS = "access tokens of operators, and the enrolment tokens that there are"
ENROLL = "tokens for workers to enrol with"
AUDIT = "list who changed what and why, the newest first"


def add_enroll_token(commands: Subparsers) -> None:
    """`enroll-token`."""
    tokens = group(commands, "enroll-token", ENROLL)
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
    tokens = group(commands, "tokens", TOKENS)
    listing = reader(tokens, "list", "list tokens of both kinds", "tokens", "list_tokens", is_list=True, sorts=False)
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
    audit = commands.add_parser("audit", help=AUDIT)
    audit.add_argument("--kind", choices=TARGET_KINDS, help="only about these")
    audit.add_argument("--target", metavar="NAME", help="only about this worker, site, queue, job or token")
    audit.add_argument("--action", metavar="ACTION", help="only this one, for example worker-paused")
    audit.add_argument("--by", metavar="NAME", help="only by this operator or worker")
    audit.add_argument("--text", help="part of action, target, site, queue, name or reason")
    text = "18:00, 2026-12-01T18:00, or 2h ago; local time unless an offset is given"
    audit.add_argument("--since", type=types.past, metavar="WHEN", help=text)
    text = "the same; a time of day is the first one after --since"
    audit.add_argument("--until", type=types.past, metavar="WHEN", help=text)
    add_read_options(audit, is_list=True, sorts=False, limit=50)
    audit.set_defaults(command=lazily("fleet.audit", "list_events"))
