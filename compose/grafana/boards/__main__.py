"""Writes the dashboards as JSON, or with `--check` reports which are out of date: `python -m grafana.boards`."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grafana.boards import fleet, queues, relay, worker
from grafana.boards.panels import Json

FOLDER = Path(__file__).parents[1] / "dashboards"
BOARDS: Mapping[str, Callable[[], Json]] = {
    "fleet.json": fleet.make,
    "queues.json": queues.make,
    "relay.json": relay.make,
    "worker.json": worker.make,
}


def text(make: Callable[[], Json]) -> str:
    """The content of a dashboard's file."""
    return json.dumps(make(), indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path) -> list[str]:
    """The files that differ from the output of the code, including files that no code generates."""
    made = {name: text(make) for name, make in BOARDS.items()}
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in made.keys() | written.keys() if made.get(name) != written.get(name))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` return 1 if one is out of date."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    if parser.parse_args(argv).check:
        names = stale(FOLDER)
        if names:
            print(f"Dashboards are out of date: {', '.join(names)}. Run `make docs`.", file=sys.stderr)
        return 1 if names else 0
    for name, make in BOARDS.items():
        (FOLDER / name).write_text(text(make), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
