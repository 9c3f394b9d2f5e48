"""Many workers fetch the same version at once: each piece is read once, and the relay's memory stays small."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from integration.relay.bundles.conftest import MIB, client, fetchers, large_bundle
from support.relay.agents import metric
from support.relay.bundles import publish_bundle
from support.relay.edge import running_edge
from support.relay.relay_process import relay_process

PIECES = "edge_relay_bundle_pieces_total"


@pytest.mark.parametrize("cache_bytes", [64 * MIB, 0])
async def test_a_piece_is_read_once_for_all_who_wait_for_it(tmp_path: Path, cache_bytes: int) -> None:
    bundle = large_bundle(2 * MIB)
    async with running_edge(tmp_path, bundle_cache_bytes=cache_bytes) as edge, client(edge) as session:
        await publish_bundle(edge.broker, bundle)
        many = await fetchers(edge, bundle, 20)
        url = edge.relays[0].workers_url
        expected = hashlib.sha256(bundle.answer(*bundle.manifest.pieces)).hexdigest()
        assert set(await asyncio.gather(*(one.digest(session, url) for one in many))) == {expected}
        sources = {source: metric(edge, PIECES, {"source": source}) for source in ("memory", "shared", "nats")}
        needed = 20 * len(bundle.frames)
        assert sum(sources.values()) == needed
        assert metric(edge, "edge_relay_bundle_bytes_total") == 20 * len(bundle.answer(*bundle.manifest.pieces))
        if cache_bytes:
            assert sources["nats"] == len(bundle.frames)
            assert metric(edge, "edge_relay_bundle_cache_bytes") == sum(map(len, bundle.frames.values()))
        else:
            # No piece is kept, and yet those who wait at the same time share a read.
            assert sources["memory"] == 0
            assert sources["nats"] < needed / 2
            assert metric(edge, "edge_relay_bundle_cache_bytes") == 0


async def _memory_of_many(tmp_path: Path, *, workers: int, size: int) -> None:
    """All fetch at once from a relay that keeps less than half of the version; one of them hardly reads."""
    bundle = large_bundle(size)
    extra = {"RELAY_BUNDLE_CACHE_BYTES": str(size * 2 // 5)}
    async with (
        running_edge(tmp_path) as edge,
        relay_process(edge, tmp_path / "relay", tls=True, extra=extra) as (process, url),
        client(edge) as session,
    ):
        await publish_bundle(edge.broker, bundle)
        slow, *many = await fetchers(edge, bundle, workers + 1)
        async with slow.slowly(edge, url) as reader:
            await reader.readexactly(1000)
            expected = hashlib.sha256(bundle.answer(*bundle.manifest.pieces)).hexdigest()
            assert set(await asyncio.gather(*(one.digest(session, url) for one in many))) == {expected}
            await reader.readexactly(1000)
        # 0.3 MiB for each connection with TLS and what it sends, besides the cache and the process itself.
        assert _peak_rss(process.pid) < 160 * MIB + size * 2 // 5 + workers * MIB * 0.6


def _peak_rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_two_hundred_workers_cost_a_relay_little_memory(tmp_path: Path) -> None:
    await _memory_of_many(tmp_path, workers=200, size=3 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_two_hundred_workers_fetch_twenty_megabytes(tmp_path: Path) -> None:
    await _memory_of_many(tmp_path, workers=200, size=20 * MIB)
