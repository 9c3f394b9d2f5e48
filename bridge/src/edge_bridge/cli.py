"""`airflow edge-relay …`. Imported for every `airflow` command, so it imports no other module of this package."""

from collections.abc import Callable

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_arg: Callable[..., Arg] = Arg  # it has no annotations in Airflow
GATE_URL = _arg(("--gate-url",), action="append", help="base URL of a keeper's gate; may be repeated")
FORCE = _arg(("--force",), action="store_true", help="also if unfinished jobs would be refused")
PEM = _arg(("--pem",), action="store_true", help="print the public keys, for EDGE_WORKER_SIGNING_KEYS")
_SIGNING_KEYS: tuple[tuple[str, str, tuple[Arg, ...]], ...] = (
    ("generate", "Create the first signing key and its key set", ()),
    ("rotate", "Create a new current key; the older ones sign as well until they are retired", ()),
    ("retire", "Keep the current key only", (FORCE,)),
    ("announce", "Write a key set of the keys in use, after the keys were changed otherwise", ()),
    ("show", "Show the fingerprints of the keys", (PEM,)),
)
JSON = _arg(("--json",), action="store_true", help="print all findings as a JSON array")


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
                    name="signing-keys",
                    help="Manage the keys that sign jobs",
                    subcommands=tuple(
                        ActionCommand(
                            name=name, help=text, func=lazy_load_command("edge_bridge.signing.cli.run"), args=args
                        )
                        for name, text, args in _SIGNING_KEYS
                    ),
                ),
            ),
        )
    ]
