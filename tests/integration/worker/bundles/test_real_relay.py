"""The fetch of code from a real relay over TLS, which reads it from a real NATS."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_schemas.bundles.pieces import PIECE_BYTES
from edge_worker.bundles.provider import Bundles, bundle_store
from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.tls import tls_context
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.bundles import make_bundle, publish_bundle
from support.relay.edge import Edge, Worker, running_edge
from support.relay.jobs import make_job


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path / "edge") as running:
        yield running


@asynccontextmanager
async def _bundles(edge: Edge, worker: Worker, folder: Path) -> AsyncIterator[Bundles]:
    """The part of a worker's agent that has the code of jobs."""
    settings = Settings(state_dir=folder, ca_file=edge.ca)
    state, link, tls = StateDir(folder), Link(), tls_context(settings)
    state.prepare()
    url = edge.relays[0].workers_url
    async with (
        RelayClient(url, worker.secret, tls=tls, proxy=None, link=link) as client,
        asyncio.TaskGroup() as group,
    ):
        bundles = Bundles(bundle_store(state, settings), client.bundles, link, group, Path(sys.executable))
        yield bundles
        bundles.close()


async def test_version_and_its_successor_are_fetched(edge: Edge, tmp_path: Path) -> None:
    files = {f"pkg/m{number}.py": f"NUMBER = {number}\n".encode() for number in range(1500)}
    files |= {"large.bin": os.urandom(9 * PIECE_BYTES + 1), "empty": b""}
    old = make_bundle(files, name="team a/däg")
    new = make_bundle({**files, "pkg/m7.py": b"NUMBER = 'seven'\n"}, name="team a/däg")
    for bundle in (old, new):
        await publish_bundle(edge.broker, bundle)
    worker = await edge.worker()
    lines: list[str] = []
    async with _bundles(edge, worker, tmp_path / "state") as bundles:
        for bundle in (old, new):
            job = await edge.job(worker, bundle.run_by(make_job()))
            tree = await bundles.code_of(job, lines.append)
            assert tree is not None
            assert (tree / "pkg" / "m7.py").read_bytes() == (
                b"NUMBER = 7\n" if bundle is old else b"NUMBER = 'seven'\n"
            )
            assert (tree / "large.bin").read_bytes() == files["large.bin"]
            assert len(list(tree.rglob("*.py"))) == 1500
    assert any("fetches 0.0 KiB of version" in line and new.digest[:12] in line for line in lines), lines


async def test_version_of_a_job_that_another_worker_holds_is_refused(edge: Edge, tmp_path: Path) -> None:
    bundle = make_bundle({"a.py": b"1"})
    await publish_bundle(edge.broker, bundle)
    holder, other = await edge.worker(), await edge.worker()
    job = await edge.job(holder, bundle.run_by(make_job()))
    async with _bundles(edge, other, tmp_path / "other") as bundles:
        with pytest.raises(CodeUnavailable, match="the relay refuses it: not_holder"):
            await bundles.code_of(job, lambda _: None)
    assert not list((tmp_path / "other" / "bundles" / "versions").iterdir())


async def test_version_that_is_no_longer_stored_is_refused(edge: Edge, tmp_path: Path) -> None:
    worker = await edge.worker()
    job = await edge.job(worker, make_bundle({"a.py": b"1"}).run_by(make_job()))
    async with _bundles(edge, worker, tmp_path / "state") as bundles:
        with pytest.raises(CodeUnavailable, match="the relay refuses it: not_found"):
            await bundles.code_of(job, lambda _: None)
