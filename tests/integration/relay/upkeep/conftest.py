"""Replicas that look after submitted jobs, without Airflow and without a keeper."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.relay.edge import Edge, running_edge


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Two replicas: everything here is done by both of them at the same time."""
    async with running_edge(tmp_path, replicas=2) as running:
        yield running
