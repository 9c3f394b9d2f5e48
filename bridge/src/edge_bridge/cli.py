"""`airflow edge-relay …`. Imported for every `airflow` command, so it imports no other module of this package."""

from collections.abc import Callable

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_arg: Callable[..., Arg] = Arg  # it has no annotations in Airflow
GATE_URL = _arg(("--gate-url",), action="append", help="base URL of a keeper's gate; may be repeated")
JSON = _arg(("--json",), action="store_true", help="print all findings as a JSON array")
AS_JSON = _arg(("--json",), action="store_true", help="print JSON")
QUEUE = _arg(("--queue",), metavar="Q", help="of this queue, whatever team its jobs belong to")
SITE = _arg(("--site",), metavar="S", help="of the workers of this site")
POLICY_FILE = _arg(
    ("--file",), metavar="FILE", help="the whole policy, as .toml or .json; - for TOML on standard input"
)
MODE = _arg(("--mode",), choices=("off", "log", "enforce"), help="log changes nothing but the list of accesses")
ALLOW = _arg(("--allow",), action="append", metavar="KIND=PATTERN", help="add a pattern; may be repeated")
DROP = _arg(("--drop",), action="append", metavar="KIND=PATTERN", help="remove a pattern; may be repeated")
REASON = _arg(("--reason",), metavar="WHY", default="", help="kept in the audit")
DRY_RUN = _arg(("--dry-run",), action="store_true", help="only print what would change")
DAYS = _arg(("--days",), type=int, default=30, metavar="N", help="of the last N days, 40 at most; default 30")
GROUP = _arg(
    ("--group",),
    type=int,
    default=20,
    metavar="N",
    help="so many names with the same first part become one pattern; 0 for never; default 20",
)


def get_cli_commands() -> list[CLICommand]:
    """The commands that this package adds."""
    return [
        GroupCommand(
            name="edge-relay",
            help="Run tasks at edge sites",
            subcommands=(
                ActionCommand(
                    name="keeper",
                    help="Run a keeper, which calls Airflow for the tasks at the edge",
                    func=lazy_load_command("edge_bridge.keeper.cli.run"),
                    args=(),
                ),
                ActionCommand(
                    name="doctor",
                    help="Find the layer that keeps tasks from running at the edge, and print the remedy",
                    description=(
                        "Checks settings, Airflow, its database and api-server, NATS, keepers and the fleet; changes "
                        "nothing. Run it where the scheduler runs. Exits with 1 if a check failed."
                    ),
                    func=lazy_load_command("edge_bridge.doctor.cli.run"),
                    args=(GATE_URL, JSON),
                ),
                GroupCommand(
                    name="policy",
                    help="Set and show what the jobs of a queue or a site may use of Airflow",
                    subcommands=_policy_commands(),
                ),
            ),
        )
    ]


def _policy_commands() -> tuple[ActionCommand, ...]:
    """Run them where a keeper runs: they use its settings."""
    commands = (
        ("show", "Print a policy, or list all of them", (QUEUE, SITE, AS_JSON)),
        ("set", "Set a policy, or change it", (QUEUE, SITE, POLICY_FILE, MODE, ALLOW, DROP, REASON, DRY_RUN)),
        ("remove", "Remove a policy: everything is allowed again", (QUEUE, SITE, REASON, DRY_RUN)),
        ("accesses", "List what jobs used", (QUEUE, SITE, DAYS, AS_JSON)),
        ("suggest", "Print a policy that allows what jobs used, for 'set --file'", (QUEUE, SITE, DAYS, GROUP)),
    )
    return tuple(
        ActionCommand(name=name, help=text, func=lazy_load_command(f"edge_bridge.policies.cli.{name}"), args=args)
        for name, text, args in commands
    )
