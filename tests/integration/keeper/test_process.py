"""`airflow edge-relay keeper` as a process: it starts, tells how it is, and leaves in order."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from edge_relay.standalone.nats_server import NatsServer
from support.airflow.keeper import KEY
from support.airflow.keeper_process import COMMAND, keeper_process
from support.airflow.real_airflow import JWT_SECRET, RealAirflow
from support.nats.server import PASSWORDS

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


async def test_the_command_serves_and_leaves_on_sigterm(airflow: RealAirflow, nats: NatsServer, tmp_path: Path) -> None:
    """Also: none of its secrets is in what it logs, not even with a traceback."""
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    async with keeper_process(nats, airflow.execution_url, tmp_path, **debug) as keeper:
        keeper.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await keeper.process.wait() == 0
    text = keeper.log.read_text()
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
