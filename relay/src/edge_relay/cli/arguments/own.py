"""The commands about the command line itself: contexts and completion."""

from pathlib import Path

from edge_relay.cli.arguments.lazily import Subparsers, group, lazily
from edge_relay.cli.arguments.shared import add_relay_options


def add_context(commands: Subparsers) -> None:
    """`context`."""
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


def add_completion(commands: Subparsers) -> None:
    """`completion` and `names`."""
    completion = commands.add_parser(
        "completion",
        help="print the completion script for a shell",
        description="For bash: edge-relay completion bash > ~/.local/share/bash-completion/completions/edge-relay",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(command=lazily("completion", "print_completion"))
    names = commands.add_parser("names", help="print names for the completion script; nothing if the relay is silent")
    names.add_argument("kind", choices=("workers", "sites", "queues"))
    names.add_argument("begin", nargs="?", default="", metavar="BEGIN", help="only those that begin so")
    add_relay_options(names)
    names.set_defaults(command=lazily("completion", "print_names"))
