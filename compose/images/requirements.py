"""Writes the requirements of each image, a part of requirements.lock: same versions, same hashes, fewer packages.

Run by `make lock`; `make check-lock` runs it with `--check`.
uv resolves the dependencies of a package, the lock sets the versions.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "requirements.lock"
TARGET = Path(__file__).parent / "requirements"
OURS = ("edge-relay", "edge-relay-bridge", "edge-relay-schemas", "edge-relay-worker")


@dataclass(frozen=True)
class Part:
    """A selection of the lock.

    Attributes:
        source: A line of a requirements file, or the folder of a package of ours.
        without: Another selection, which the base image already contains.
    """

    source: str
    without: str | None = None


PARTS = {
    "build": Part("hatchling"),
    "relay": Part("relay"),
    "worker": Part("edge_worker"),
    "runtime": Part("apache-airflow"),
    "bridge": Part("bridge", without="runtime"),
}


def main() -> int:
    """Write the files, or with `--check` report which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a file is out of date")
    check = parser.parse_args().check
    stale = [path.name for path, text in rendered().items() if not path.is_file() or path.read_text() != text]
    if check and stale:
        print(f"compose/images/requirements: {', '.join(stale)} out of date: run 'make lock'", file=sys.stderr)
        return 1
    if not check:
        TARGET.mkdir(exist_ok=True)
        for path, text in rendered().items():
            path.write_text(text)
    return 0


def rendered() -> dict[Path, str]:
    """The expected content of each file."""
    lock = blocks(LOCK.read_text())
    names = {name: _resolve(part) for name, part in PARTS.items()}
    texts = {}
    for name, part in PARTS.items():
        chosen = names[name] - (names[part.without] if part.without else frozenset())
        lines = [block for package, block in lock.items() if package in chosen]
        head = f"# Written by 'make lock': the part of requirements.lock for {part.source} and its dependencies"
        head += f", without the packages in {part.without}.txt.\n" if part.without else ".\n"
        texts[TARGET / f"{name}.txt"] = head + "".join(lines)
    return texts


def blocks(lock: str) -> Mapping[str, str]:
    """The lines of the lock by package, with their hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line[0].isalnum():
            name = line.partition("==")[0]
        if name:
            found[name] = found.get(name, "") + line
    return found


def _resolve(part: Part) -> frozenset[str]:
    """The names of a part's packages and of all their dependencies, with the versions of the lock."""
    project = REPOSITORY / part.source / "pyproject.toml"
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.in"
        requirements.write_text(f"{part.source}\n")
        source = project if project.is_file() else requirements
        found = subprocess.run(
            [
                *(".ci/uv", "pip", "compile", str(source), "--constraint", str(LOCK)),
                *("--universal", "--python-version", "3.11", "--no-annotate", "--no-header", "--quiet"),
                *(word for name in OURS for word in ("--no-emit-package", name)),
            ],
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return frozenset(line.partition("==")[0] for line in found.stdout.splitlines() if line[:1].isalnum())


if __name__ == "__main__":
    sys.exit(main())
