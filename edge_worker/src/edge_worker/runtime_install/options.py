"""The options of `edge-worker runtime` that are not settings."""

import argparse
from pathlib import Path
from typing import TypedDict

OWN = ("dir", "python", "wheels", "index_url", "airflow_version", "lock")
"""Their names in the parsed arguments."""


class OwnOptions(TypedDict):
    """The parsed options; None for one that was not set."""

    dir: Path | None
    python: Path | None
    wheels: Path | None
    index_url: str | None
    airflow_version: str | None
    lock: Path | None


def add_options(install: argparse.ArgumentParser, show: argparse.ArgumentParser) -> None:
    """Adds the options that are not settings."""
    for command in (install, show):
        command.add_argument("--dir", type=Path, metavar="DIR", help="folder of runtimes; default: STATE_DIR/runtime")
    install.add_argument(
        "--python",
        type=Path,
        metavar="PYTHON",
        help="make the runtime of this Python, 3.11 to 3.13; default: the agent's own",
    )
    install.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="install from the wheels in this folder, without an index"
    )
    install.add_argument(
        "--index-url",
        metavar="URL",
        help="package index or mirror; default: pip's own (PIP_INDEX_URL, pip.conf). With a password: PIP_INDEX_URL",
    )
    install.add_argument(
        "--version",
        dest="airflow_version",
        metavar="X",
        help="install this version of Airflow instead of the centre's; also before the enrolment",
    )
    install.add_argument(
        "--lock", type=Path, metavar="FILE", help="install these pinned requirements instead of the centre's"
    )
