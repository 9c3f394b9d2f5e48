"""A fake relay on a real socket, and settings of an agent that knows it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge_worker.settings import Settings
from support.fake_relay import FakeRelay


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    fake = FakeRelay()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's name, which pytest's own does not."""
    path = Path(tempfile.mkdtemp(prefix="ew-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(relay: FakeRelay, tmp_path: Path, short_dir: Path) -> Settings:
    return Settings(
        relay_url=relay.url, state_dir=tmp_path / "state", runtime_dir=short_dir, slots=2, grace_s=0.5, log_keep_days=1
    )
