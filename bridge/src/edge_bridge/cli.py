"""`airflow edge-relay …`. Imported for every `airflow` command, so it imports no other module of this package."""

from collections.abc import Callable

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_arg: Callable[..., Arg] = Arg  # it has no annotations in Airflow
GATE_URL = _arg(("--gate-url",), action="append", help="base URL of a keeper's gate; may be repeated")
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
            ),
        )
    ]
