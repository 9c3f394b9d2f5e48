"""Installed beside Airflow, the bridge shows up where a user looks: options, provider and commands."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

AIRFLOW = Path(sys.executable).parent / "airflow"


async def airflow(home: Path, *arguments: str) -> str:
    """What a command of Airflow prints."""
    process = await asyncio.create_subprocess_exec(
        *(str(AIRFLOW), *arguments),
        env={**os.environ, "AIRFLOW_HOME": str(home), "COLUMNS": "200", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_airflow_shows_options_provider_and_commands(tmp_path: Path) -> None:
    section, providers, ours = await asyncio.gather(
        airflow(tmp_path, "config", "list", "--section", "edge_relay", "--include-descriptions"),
        airflow(tmp_path, "providers", "list"),
        airflow(tmp_path, "edge-relay", "--help"),
    )
    assert "[edge_relay]" in section
    assert "nats_urls" in section
    assert "edge-relay-bridge" in providers
    assert "keeper" in ours
