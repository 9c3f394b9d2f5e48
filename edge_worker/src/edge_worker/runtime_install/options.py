"""The options of `edge-worker runtime` that are not settings."""

import argparse
from pathlib import Path

OWN = ("dir", "python", "wheels", "index_url", "airflow_version", "lock")
"""Under what names they are found."""


def add_options(install: argparse.ArgumentParser, show: argparse.ArgumentParser) -> None:
    """The options that are not settings."""
    for command in (install, show):
        command.add_argument("--dir", type=Path, metavar="DIR", help="folder of runtimes; default: STATE_DIR/runtime")
    install.add_argument(
        "--python", type=Path, metavar="PYTHON", help="make it of this Python, 3.11 to 3.13; default: the agent's own"
    )
    install.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="install from the wheels in this folder; no index is asked"
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
        help="this version of Airflow, whatever the centre names; also before enrolment",
    )
    install.add_argument(
        "--lock", type=Path, metavar="FILE", help="pinned requirements to install, whatever the centre names"
    )
