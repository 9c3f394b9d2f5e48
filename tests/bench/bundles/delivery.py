"""What the delivery of a 20 MB bundle costs: bytes and time for one worker, and the relay's share for 200 at once.

One relay process on uvloop over TLS and one nats-server. The single worker is the worker's own fetcher with its disk;
the 200 are plain HTTP clients in this process.
"""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import orjson

from bench.bundles import forms
from bench.bundles.wire import Wire
from bench.figures import Row, cpu_seconds, percentile, rss_bytes
from edge_schemas.wire.job_calls import MAX_PIECES
from edge_service.logging import configure_logging
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.fetch import VersionFetch
from edge_worker.bundles.pruning import BundleLimits
from edge_worker.bundles.store import BundleStore
from edge_worker.bundles.waiting import Waiter
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from support.relay.bundles import MadeBundle, make_bundle, publish_bundle
from support.relay.edge import Edge, Worker, running_edge
from support.relay.jobs import make_job
from support.relay.relay_process import relay_process

WORKERS = 200
LIMITS = BundleLimits(1 << 30, 2 << 30, 86400.0, 0)
LINES = (("a local network", 0.0, None), ("100 ms and 10 Mbit/s", 0.05, 10e6 / 8))
"""Name, delay in each direction, bytes in a second."""
REPEAT_S = 1.0
MIB = 1 << 20


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The figures."""
    configure_logging("warning")
    files = forms.bundle()
    first, second = make_bundle(files), make_bundle(forms.changes(files)[0])
    rows: list[Row] = [_size(first)]
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running_edge(directory / "edge"))
        process, url = await stack.enter_async_context(relay_process(edge, directory / "relay", tls=True))
        for version in (first, second):
            await publish_bundle(edge.broker, version)
        for name, delay_s, bytes_per_s in LINES:
            async with Wire.to(url) as wire:
                wire.delay_s, wire.bytes_per_s = delay_s, bytes_per_s
                rows += await _one_worker(
                    edge, wire, directory / name.replace(" ", "-").replace("/", "-"), name, (first, second)
                )
        rows += await _many(edge, process.pid, url, first)
    return f"Delivery of a bundle, with a load of {os.getloadavg()[0]:.1f} on the machine", rows


def _size(bundle: MadeBundle) -> Row:
    stored = len(bundle.frame) + sum(map(len, bundle.frames.values()))
    return "bundle", f"{len(bundle.manifest.files):,} files, {bundle.manifest.size:,} bytes, {stored:,} as stored"


async def _one_worker(
    edge: Edge, wire: Wire, folder: Path, line: str, versions: tuple[MadeBundle, MadeBundle]
) -> list[Row]:
    """A worker without any version, with the version, and with the one before it."""
    worker = await edge.worker()
    store = BundleStore(folder, LIMITS, set)
    store.prepare()
    rows: list[Row] = []
    for what, version in zip(("cold", "one file of it was changed"), versions, strict=True):
        before, began = wire.passed, time.monotonic()
        await _fetch(edge, worker, f"https://127.0.0.1:{wire.port}", store, version)
        took = time.monotonic() - began
        rows.append((f"{line}: {what}", f"{wire.passed - before:,} bytes on the wire, {took:.2f} s"))
    before, began = wire.passed, time.monotonic()
    assert store.tree(versions[1].digest) is not None
    took = time.monotonic() - began
    rows.append((f"{line}: warm", f"{wire.passed - before:,} bytes on the wire, {took:.2f} s"))
    return rows


async def _fetch(edge: Edge, worker: Worker, url: str, store: BundleStore, version: MadeBundle) -> None:
    """From the first call, with its connection and TLS, to the verified folder."""
    job = await edge.job(worker, version.run_by(make_job()))
    disk, tls = Disk(), ssl.create_default_context(cafile=str(edge.ca))
    try:
        async with RelayClient(url, worker.secret, tls=tls, proxy=None) as client:
            fetch = VersionFetch(version.digest, client.bundles, store, disk, Link())
            waiter = Waiter(job.id, version.ref, lambda _: None)
            fetch.waiters.join(waiter)
            await fetch.run()
            waiter.done.result()
    finally:
        disk.close()


async def _many(edge: Edge, relay: int, url: str, bundle: MadeBundle) -> list[Row]:
    """All of the version, at once."""
    workers = [await edge.worker() for _ in range(WORKERS)]
    jobs = [(await edge.job(worker, bundle.run_by(make_job()))).id for worker in workers]
    async with _session(edge) as session, _peak_rss(relay) as peak:
        before, cpu, began = rss_bytes(relay), cpu_seconds(relay), time.monotonic()
        calls = zip(workers, jobs, strict=True)
        seconds = await asyncio.gather(*(_all_pieces(session, url, worker, job, bundle) for worker, job in calls))
        took, used = time.monotonic() - began, cpu_seconds(relay) - cpu
        sent = WORKERS * sum(len(frame) + 4 for frame in bundle.frames.values())
    return [
        (
            f"{WORKERS} workers at once: all have it",
            f"{took:.1f} s; the median worker after {percentile(seconds, 0.5):.1f} s",
        ),
        (f"{WORKERS} workers at once: throughput", f"{sent / MIB / took:.0f} MiB/s"),
        (f"{WORKERS} workers at once: the relay's CPU", f"{used:.1f} s, {used / (sent / 1e9):.1f} s for 1 GB"),
        (
            f"{WORKERS} workers at once: the relay's memory",
            f"{before / MIB:.0f} MiB before, {peak[0] / MIB:.0f} MiB at most",
        ),
    ]


async def _all_pieces(session: aiohttp.ClientSession, url: str, worker: Worker, job: str, bundle: MadeBundle) -> float:
    began, pieces = time.monotonic(), list(bundle.manifest.pieces)
    headers = {"Authorization": f"Bearer {worker.secret}", "Content-Type": "application/json"}
    for start in range(0, len(pieces), MAX_PIECES):
        wanted = pieces[start : start + MAX_PIECES]
        body = orjson.dumps({"job": job, "pieces": wanted})
        expected = sum(len(bundle.frames[piece]) + 4 for piece in wanted)
        received = None
        while received is None:
            received = await _answer_bytes(session, url + bundle.pieces_path, body, headers)
        assert received == expected
    return time.monotonic() - began


async def _answer_bytes(session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> int | None:
    """How many bytes an answer had; None if the relay asks for a repeat, as workers get and make it under load."""
    async with session.post(url, data=body, headers=headers) as answer:
        if answer.status in {429, 503}:
            await asyncio.sleep(REPEAT_S)
            return None
        assert answer.status == 200, await answer.text()
        received = 0
        async for chunk in answer.content.iter_any():
            received += len(chunk)
        return received


@asynccontextmanager
async def _session(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    tls = ssl.create_default_context(cafile=str(edge.ca))
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session


@asynccontextmanager
async def _peak_rss(pid: int) -> AsyncIterator[list[int]]:
    """The highest memory that was seen, in one place of a list."""
    peak = [rss_bytes(pid)]

    async def watch() -> None:
        while True:
            peak[0] = max(peak[0], rss_bytes(pid))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch(), name="peak-rss")
    try:
        yield peak
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
