"""A task host in the interpreter that runs the tests, and a folder of DAGs."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.airflow.task_host import Site, make_site


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's name, which pytest's own does not."""
    path = Path(tempfile.mkdtemp(prefix="er-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """An edge machine of one's own, without a running task host."""
    async with make_site(tmp_path) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """An edge machine with a warm task host, which the tests of a module share."""
    async with make_site(tmp_path_factory.mktemp("site")) as site, site.agent():
        yield site
