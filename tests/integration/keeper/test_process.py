"""`airflow edge-relay keeper` as a process: it starts, tells how it is, and leaves in order."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from edge_relay.standalone.nats_server import NatsServer
from support.airflow.keeper import KEY
from support.airflow.real_airflow import JWT_SECRET, RealAirflow
from support.nats.server import PASSWORDS, eventually, free_port

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow
COMMAND = [sys.executable, "-m", "airflow", "edge-relay", "keeper"]


async def test_the_command_serves_and_leaves_on_sigterm(airflow: RealAirflow, nats: NatsServer, tmp_path: Path) -> None:
    """Also: none of its secrets is in what it logs, not even with a traceback."""
    port = free_port()
    (tmp_path / "keeper.password").write_text(PASSWORDS["keeper"] + "\n")
    env = {
        **os.environ,
        "AIRFLOW__EDGE_RELAY__NATS_URLS": nats.url,
        "AIRFLOW__EDGE_RELAY__SECRETS_DIR": str(tmp_path),
        "AIRFLOW__EDGE_RELAY__GATE_SECRET": KEY.decode(),
        "AIRFLOW__EDGE_RELAY__GATE_PORT": str(port),
        "AIRFLOW__EDGE_RELAY__EXECUTION_API_URL": airflow.execution_url,
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    }
    log = tmp_path / "keeper.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*COMMAND, env=env, stdout=output, stderr=output)
    try:
        await eventually(lambda: process.returncode is not None or healthy(port), timeout_s=90)
        assert process.returncode is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = log.read_text()
    events = [json.loads(line)["event"] for line in text.splitlines() if line.startswith("{")]
    assert [event for event in events if event.startswith("keeper_")] == ["keeper_ready", "keeper_stopping"]
    for secret in (KEY.decode(), PASSWORDS["keeper"], JWT_SECRET):
        assert secret not in text


async def test_the_command_names_the_setting_that_is_missing(airflow: RealAirflow) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert "gate_secret" in output.decode()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as reply:
            return bool(json.load(reply)["ok"])
    except (urllib.error.URLError, OSError):
        return False
