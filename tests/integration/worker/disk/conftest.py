"""A fake relay on a real socket, and settings of an agent that knows it."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay


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


@pytest.fixture
async def small_disk(short_dir: Path) -> tuple[str, ...]:
    """A command that starts a program with a small file system of its own at `short_dir/disk`.

    What is in `short_dir/seed` is copied there first.
    """
    if shutil.which("unshare") is None or sys.platform != "linux":
        pytest.skip("a file system of its own needs Linux and util-linux")
    (short_dir / "disk").mkdir()
    (short_dir / "seed").mkdir()
    mount = 'mount -t tmpfs -o size=4m,mode=700 none "$1/disk" && cp -r "$1/seed/." "$1/disk/"'
    user = () if os.geteuid() == 0 else ("-Ur",)
    command = ("unshare", *user, "-m", "sh", "-c", f'{mount} && shift && exec "$@"', "sh", str(short_dir))
    probe = await asyncio.create_subprocess_exec(*command, "true", stderr=asyncio.subprocess.DEVNULL)
    if await probe.wait() != 0:
        pytest.skip("this machine lets nobody mount in a namespace of their own")
    return command


def fill(path: Path) -> None:
    """Write until the disk takes nothing more."""
    with path.open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(bytes(4096))
            except OSError:
                return
