"""A run of `edge-worker` in a process that was forked from one which has imported everything.

Importing takes the better part of a doctor's time, and there are many broken set-ups to examine.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_worker import cli


def run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, out: Path, err: Path) -> None:
    """Become the command, with nothing of this process's own."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    sys.exit(cli.main(arguments))
