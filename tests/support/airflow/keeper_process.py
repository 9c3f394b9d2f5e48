"""A keeper in a process of its own: `airflow edge-relay keeper`."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_relay.standalone.nats_server import NatsServer
from support.airflow.keeper import KEY
from support.nats.server import PASSWORDS, eventually, free_port

COMMAND = [sys.executable, "-m", "airflow", "edge-relay", "keeper"]
START_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class KeeperProcess:
    """A running keeper.

    Attributes:
        gate: Its address.
        log: What it has printed.
    """

    process: Process
    gate: str
    log: Path


@asynccontextmanager
async def keeper_process(
    nats: NatsServer, execution_url: str, folder: Path, **settings: str
) -> AsyncIterator[KeeperProcess]:
    """A keeper that answers well; killed at the end, if it is still running.

    Args:
        nats: Is used by the keeper.
        execution_url: Of the Execution API.
        folder: For its files.
        settings: Further environment variables.
    """
    port = free_port()
    (folder / "keeper.password").write_text(PASSWORDS["keeper"] + "\n")
    env = {
        **os.environ,
        "AIRFLOW__EDGE_RELAY__NATS_URLS": nats.url,
        "AIRFLOW__EDGE_RELAY__SECRETS_DIR": str(folder),
        "AIRFLOW__EDGE_RELAY__GATE_SECRET": KEY.decode(),
        "AIRFLOW__EDGE_RELAY__GATE_PORT": str(port),
        "AIRFLOW__EDGE_RELAY__EXECUTION_API_URL": execution_url,
        **settings,
    }
    log = folder / "keeper.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*COMMAND, env=env, stdout=output, stderr=output)
    try:
        await eventually(lambda: process.returncode is not None or _healthy(port), timeout_s=START_TIMEOUT_S)
        assert process.returncode is None, log.read_text()
        yield KeeperProcess(process, f"http://127.0.0.1:{port}", log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as reply:
            return bool(json.load(reply)["ok"])
    except (urllib.error.URLError, OSError):
        return False
