"""`airflow edge-relay …`. Imported for every `airflow` command, so it imports no other module of this package."""

from collections.abc import Callable

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_arg: Callable[..., Arg] = Arg  # it has no annotations in Airflow
GATE_URL = _arg(("--gate-url",), action="append", help="base URL of a keeper's gate; may be repeated")
FORCE = _arg(("--force",), action="store_true", help="also if unfinished jobs would be refused")
STOLEN = _arg(("--stolen",), action="store_true", help="the older keys are in wrong hands: none counts any more")
PEM = _arg(("--pem",), action="store_true", help="print the public keys, for EDGE_WORKER_SIGNING_KEYS")
_SIGNING_KEYS: tuple[tuple[str, str, tuple[Arg, ...]], ...] = (
    ("generate", "Create the first signing key and its key set", ()),
    ("rotate", "Create a new current key; the older ones sign as well until they are retired", (STOLEN,)),
    ("retire", "Keep the current key only", (FORCE,)),
    ("announce", "Write a key set of the keys in use, after the keys were changed otherwise", ()),
    ("show", "Show the fingerprints of the keys", (PEM,)),
)
DRY_RUN = _arg(("--dry-run",), action="store_true", help="print what would be removed, and change nothing")
OLDER_THAN = _arg(
    ("--older-than",),
    type=int,
    metavar="SECONDS",
    help="remove what was not needed for so long, at least 600; default: [edge_relay] bundle_min_age",
)
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
POLICY_DRY_RUN = _arg(("--dry-run",), action="store_true", help="only print what would change")
DAYS = _arg(("--days",), type=int, default=30, metavar="N", help="of the last N days, 40 at most; default 30")
GROUP = _arg(
    ("--group",),
    type=int,
    default=20,
    metavar="N",
    help="so many names with the same first part become one pattern; 0 for never; default 20",
)
CONFIGURED = _arg(("configured",), nargs="?", metavar="BUNDLE", help="name of a bundle in dag_bundle_config_list")
FOLDER = _arg(("--path",), metavar="FOLDER", help="publish this folder instead; see --name")
NAME = _arg(("--name",), metavar="BUNDLE", help="name under which Airflow knows the bundle of the folder")
REQUIREMENTS = _arg(("--requirements",), metavar="FILE", help="path in the bundle of a requirements file for its tasks")
BUNDLE = _arg(("bundle",), metavar="BUNDLE", help="name of a published bundle")
VERSION = _arg(
    ("version",), nargs="?", metavar="VERSION", help="digest, its beginning, or commit; default the current one"
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
                    name="signing-keys",
                    help="Manage the keys that sign jobs",
                    subcommands=tuple(
                        ActionCommand(
                            name=name, help=text, func=lazy_load_command("edge_bridge.signing.cli.run"), args=args
                        )
                        for name, text, args in _SIGNING_KEYS
                    ),
                ),
                GroupCommand(
                    name="policy",
                    help="Set and show what the jobs of a queue or a site may use of Airflow",
                    subcommands=_policy_commands(),
                ),
                GroupCommand(name="bundles", help="Published DAG code", subcommands=_bundles()),
            ),
        )
    ]


def _policy_commands() -> tuple[ActionCommand, ...]:
    """Run them where a keeper runs: they use its settings."""
    commands = (
        ("show", "Print a policy, or list all of them", (QUEUE, SITE, AS_JSON)),
        ("set", "Set a policy, or change it", (QUEUE, SITE, POLICY_FILE, MODE, ALLOW, DROP, REASON, POLICY_DRY_RUN)),
        ("remove", "Remove a policy: everything is allowed again", (QUEUE, SITE, REASON, POLICY_DRY_RUN)),
        ("accesses", "List what jobs used", (QUEUE, SITE, DAYS, AS_JSON)),
        ("suggest", "Print a policy that allows what jobs used, for 'set --file'", (QUEUE, SITE, DAYS, GROUP)),
    )
    return tuple(
        ActionCommand(name=name, help=text, func=lazy_load_command(f"edge_bridge.policies.cli.{name}"), args=args)
        for name, text, args in commands
    )


def _bundles() -> tuple[ActionCommand, ...]:
    return (
        ActionCommand(
            name="publish",
            help="Publish a bundle now",
            description=(
                "Publishes the files of a configured bundle as they are now, or those of a folder, and makes them the "
                "current version: runs that name no version get it. What is published already is not stored again."
            ),
            func=lazy_load_command("edge_bridge.bundles.cli.publish"),
            args=(CONFIGURED, FOLDER, NAME, REQUIREMENTS, AS_JSON),
        ),
        ActionCommand(
            name="list",
            help="List the published versions",
            func=lazy_load_command("edge_bridge.bundles.cli.list_versions"),
            args=(AS_JSON,),
        ),
        ActionCommand(
            name="show",
            help="Show a published version with its files",
            func=lazy_load_command("edge_bridge.bundles.cli.show"),
            args=(BUNDLE, VERSION, AS_JSON),
        ),
        ActionCommand(
            name="prune",
            help="Remove published versions that nothing needs any more",
            description=(
                "Removes published versions that no DAG run, DAG or unfinished job names, and what only they needed. "
                "Keepers do the same once an hour. Run it where a keeper runs: it uses the keeper's password for NATS "
                "and Airflow's database."
            ),
            func=lazy_load_command("edge_bridge.keeper.bundles.cli.prune"),
            args=(DRY_RUN, OLDER_THAN),
        ),
        ActionCommand(
            name="unpublish",
            help="Let new jobs use the workers' own folders again",
            description=(
                "Removes the mark of a bundle's current version. Runs whose version is published still get it; other "
                "new jobs use the workers' own folders. First stop publishing the bundle, or it comes back."
            ),
            func=lazy_load_command("edge_bridge.keeper.bundles.cli.unpublish"),
            args=(BUNDLE,),
        ),
    )
