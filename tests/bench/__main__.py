"""Runs the benchmarks and prints a page in Markdown.

`make bench` runs all; `make bench ARGS="relay"` only the named ones: relay, parked, worker, task, stop.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench import parked, relay, stop, task, worker
from bench.figures import machine, table

SECTIONS = {
    "relay": relay.measure,
    "parked": parked.measure,
    "worker": worker.measure,
    "task": task.measure,
    "stop": stop.measure,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="which; all without a name")
    names = parser.parse_args().section or list(SECTIONS)
    sys.stdout.write(f"{machine()}\n")
    for name in names:
        with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
            title, rows = asyncio.run(SECTIONS[name](Path(directory)))
        sys.stdout.write(f"\n## {title}\n\n`make bench ARGS={name}`\n\n{table(rows)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
