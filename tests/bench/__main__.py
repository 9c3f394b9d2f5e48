"""Runs the benchmarks and prints a page in Markdown.

`make bench` runs all; `make bench ARGS="relay"` only the named ones: relay, order, queue, worker, task, stop,
bundle, scale.
`scale` has parts, such as `scale.history`.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench import order, queue, relay, stop, task, worker
from bench.bundles import delivery
from bench.figures import Row, machine, table
from bench.scale import bulk, history, lists, nats_cut, parked, quiet_polls, relay_restart

SECTIONS = {
    "relay": relay.measure,
    "order": order.measure,
    "queue": queue.measure,
    "worker": worker.measure,
    "task": task.measure,
    "stop": stop.measure,
    "bundle": delivery.measure,
}
SCALE = {
    "scale.bulk": bulk.measure,
    "scale.history": history.measure,
    "scale.lists": lists.measure,
    "scale.parked": parked.measure,
    "scale.polls": quiet_polls.measure,
    "scale.cut": nats_cut.measure,
    "scale.restart": relay_restart.measure,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "section", nargs="*", choices=[*SECTIONS, "scale", *SCALE, []], help="which; all without a name"
    )
    names = parser.parse_args().section or [*SECTIONS, "scale"]
    sys.stdout.write(f"{machine()}\n")
    for name in names:
        with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
            title, rows = asyncio.run(_measure(name, Path(directory)))
        sys.stdout.write(f"\n## {title}\n\n`make bench ARGS={name}`\n\n{table(rows)}\n")
        sys.stdout.flush()
    return 0


async def _measure(name: str, directory: Path) -> tuple[str, list[Row]]:
    if name in SECTIONS:
        return await SECTIONS[name](directory)
    parts = SCALE if name == "scale" else {name: SCALE[name]}
    return "Scale", [row for part, measure in parts.items() for row in await measure(directory / part)]


if __name__ == "__main__":
    sys.exit(main())
