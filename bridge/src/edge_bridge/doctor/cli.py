"""`airflow edge-relay doctor`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import cast

from edge_bridge.doctor.examination import examine_airflow
from edge_bridge.settings import Conf
from edge_schemas.findings import Finding, as_json, as_text, exit_status


def run(args: argparse.Namespace) -> None:
    """Look at everything and tell it. Exits with 1 if something failed."""
    from airflow.configuration import conf

    # Its `get` is overloaded more narrowly than we use it.
    found = asyncio.run(_examine(cast("Conf", conf), args.gate_url or (), quiet=args.json))
    if args.json:
        print(as_json(found))
    sys.stdout.flush()
    if status := exit_status(found):
        sys.exit(status)


async def _examine(conf: Conf, gate_urls: Sequence[str], *, quiet: bool) -> list[Finding]:
    found = []
    async for finding in examine_airflow(conf, gate_urls):
        found.append(finding)
        if not quiet:
            print(as_text(finding), flush=True)
    return found
