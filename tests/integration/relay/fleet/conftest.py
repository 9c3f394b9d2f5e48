"""Two replicas before a real NATS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.relay.edge import Edge, running_edge


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, replicas=2) as edge:
        yield edge
