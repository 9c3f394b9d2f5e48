"""`airflow edge-relay doctor`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from edge_bridge.doctor.checks import examine_airflow
from edge_bridge.output import others_to_stderr
from edge_bridge.settings import Conf
from edge_service.findings import Finding, as_json, as_text, exit_status


def run(args: argparse.Namespace) -> None:
    """Run all checks and print the findings. Exits with 1 if a check failed."""
    from airflow.configuration import conf

    found: list[Finding] = []
    with suppress(BrokenPipeError), others_to_stderr() as out:
        found = asyncio.run(_examine(conf, args.gate_url or (), None if args.json else out))
        if args.json:
            print(as_json(found), file=out)
    if status := exit_status(found):
        sys.exit(status)


async def _examine(conf: Conf, gate_urls: Sequence[str], out: TextIO | None) -> list[Finding]:
    found = []
    async for finding in examine_airflow(conf, gate_urls):
        found.append(finding)
        if out is not None:
            print(as_text(finding), file=out, flush=True)
    return found
