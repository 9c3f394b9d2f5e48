"""A fake relay on a real socket and settings of an agent that knows it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge_worker.settings import Settings
from support.network.certificates import Certificates, make_certificates
from support.relay.fake_relay import FakeRelay
from support.worker.agent_process import kill_jobs


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    fake = FakeRelay()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's name, which pytest's own does not."""
    path = Path(tempfile.mkdtemp(prefix="ew-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(relay: FakeRelay, tmp_path: Path, short_dir: Path) -> Iterator[Settings]:
    """The jobs of its state folder are ended after the test, which may have failed in between."""
    state_dir = tmp_path / "state"
    yield Settings(
        relay_url=relay.url, state_dir=state_dir, runtime_dir=short_dir, slots=2, grace_s=0.5, log_keep_days=1
    )
    kill_jobs(state_dir / "jobs")
