"""`airflow edge-relay keeper`."""

import argparse
import asyncio
import os
import sys

import structlog

from edge_bridge.keeper.service import serve
from edge_bridge.keeper.settings import keeper_settings
from edge_bridge.keeper.tokens import SigningUnavailable, mint_from_config
from edge_bridge.settings import SettingsError
from edge_service.logging import configure_logging

log = structlog.get_logger(__name__)


def run(args: argparse.Namespace) -> None:  # noqa: ARG001  # Airflow calls commands with it
    """Run a keeper until SIGTERM or SIGINT. Exits with 2 if its settings are wrong, with 1 if it can't listen."""
    from airflow.configuration import conf

    # As Airflow's scheduler and dag-processor do: bundles may need connections, which are in the database.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    configure_logging(conf.get("logging", "logging_level", fallback="INFO"))
    try:
        settings, mint = keeper_settings(conf), mint_from_config()
    except (SettingsError, SigningUnavailable) as error:
        sys.exit(_report(str(error), 2))
    try:
        asyncio.run(serve(settings, mint))
    except OSError as error:
        sys.exit(_report(f"the gate can't listen on {settings.gate_host}:{settings.gate_port}: {error.strerror}", 1))


def _report(text: str, status: int) -> int:
    print(f"airflow edge-relay keeper: {text}", file=sys.stderr)
    return status
