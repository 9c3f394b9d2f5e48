"""`edge-relay completion`."""

from argparse import Namespace

import shtab

from edge_relay.cli.arguments.parser import build


def print_completion(options: Namespace) -> None:
    """`completion`: the script for a shell, with every command and option."""
    parser = build(None)
    parser.prog = "edge-relay"
    print(shtab.complete(parser, options.shell))
