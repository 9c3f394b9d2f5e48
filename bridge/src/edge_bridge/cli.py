"""`airflow edge-relay …`. Imported for every `airflow` command, so it loads nothing of ours but names."""

from airflow.cli.cli_config import ActionCommand, CLICommand, GroupCommand, lazy_load_command


def get_cli_commands() -> list[CLICommand]:
    """The commands that this package adds."""
    return [
        GroupCommand(
            name="edge-relay",
            help="Run tasks at edge sites",
            subcommands=(
                ActionCommand(
                    name="keeper",
                    help="Run a keeper, which speaks to Airflow for the tasks at the edge",
                    func=lazy_load_command("edge_bridge.keeper.cli.run"),
                    args=(),
                ),
            ),
        )
    ]
