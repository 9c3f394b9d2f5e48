"""The command `edge-relay`. A command imports what it needs when it runs, so that `--help` answers at once."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from edge_relay.cli.arguments.parser import build
from edge_relay.cli.output import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Failure, explain
from edge_service.closed_pipe import run_until_closed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused or failed, 2 wrong usage or setting, 3 no answer."""
    return run_until_closed(partial(_main, argv))


def _main(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build(words)
    options = parser.parse_args(words)
    command: Callable[[argparse.Namespace], None] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    try:
        command(options)
    except Failure as failure:
        explain(failure)
        return failure.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK
