"""A gateway with one running job."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.relay.fake_relay import FakeRelay
from support.worker.gateway import GatewayScene, serving_gateway


@pytest.fixture
async def gateway(relay: FakeRelay, short_dir: Path, tmp_path: Path) -> AsyncIterator[GatewayScene]:
    async with serving_gateway(relay, short_dir, tmp_path) as scene:
        yield scene
