"""Answers that are read slowly: few of them, ended if they stand still, continued if NATS or the relay went away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from edge_schemas.bundles.pieces import LENGTH_BYTES
from edge_service import body_progress
from integration.relay.bundles.conftest import MIB, Fetcher, fetchers, large_bundle
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import metric
from support.relay.bundles import publish_bundle
from support.relay.edge import Edge, Reply, running_edge

BUNDLE = large_bundle(12 * MIB)
"""More than systems keep for a connection on loopback."""
ANSWERS = "edge_relay_bundle_answers"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Three answers at once, two of one worker; nothing is kept in memory."""
    async with running_edge(
        tmp_path, linked=True, bundle_cache_bytes=0, bundle_answers=3, bundle_answers_per_worker=2
    ) as running:
        await publish_bundle(running.broker, BUNDLE)
        yield running


async def ask(edge: Edge, fetcher: Fetcher, *pieces: str, offset: int = 0) -> Reply:
    """One whole answer."""
    sent = {"Content-Type": "application/json"}
    body = fetcher.body(*pieces, offset=offset)
    path = fetcher.bundle.pieces_path
    return await edge.call("POST", path, fetcher.worker.secret, body=body, headers=sent)


async def test_answers_are_limited_for_a_worker_and_in_all(edge: Edge) -> None:
    one, two, three = await fetchers(edge, BUNDLE, 3)
    url, piece = edge.relays[0].workers_url, next(iter(BUNDLE.frames))
    async with AsyncExitStack() as stack:
        for fetcher in (one, one, two):
            reader = await stack.enter_async_context(fetcher.slowly(edge, url))
            await reader.readexactly(1000)
        for fetcher, limit in ((one, "bundle_answers_of_worker"), (three, "bundle_answers")):
            reply = await ask(edge, fetcher, piece)
            assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, "rate_limited", "2")
            manifest = await edge.call("GET", f"{BUNDLE.path}?job={fetcher.job.id}", fetcher.worker.secret)
            assert manifest.code == "rate_limited"
            assert metric(edge, "edge_relay_limited_total", {"limit": limit}) == 2
    await eventually(lambda: metric(edge, ANSWERS) == 0, what="the answers have ended with their connections")
    assert (await ask(edge, three, piece)).body == BUNDLE.answer(piece)


async def test_an_answer_that_stands_still_ends(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_progress, "STALL_S", 0.5)
    [one] = await fetchers(edge, BUNDLE, 1)
    async with one.slowly(edge, edge.relays[0].workers_url) as reader:
        await reader.readexactly(1000)
        await eventually(lambda: metric(edge, ANSWERS) == 0, what="the answer has ended")


async def test_a_fetch_continues_after_nats_was_away(edge: Edge) -> None:
    """The worker has a part of a piece, and asks for the rest of it and for those behind it."""
    [one] = await fetchers(edge, BUNDLE, 1)
    pieces = list(BUNDLE.manifest.pieces)
    whole = BUNDLE.answer(*pieces)
    async with one.slowly(edge, edge.relays[0].workers_url) as reader:
        await reader.readuntil(b"\r\n\r\n")
        received = bytearray()
        await chunk_of(reader, received)
        await edge.nats_link.cut(Cut.RESET)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await chunk_of(reader, received)
    assert len(received) < len(whole)
    assert whole.startswith(received)
    await edge.nats_link.restore()
    broker = edge.relays[0].parts.broker
    await eventually(lambda: broker.connected, timeout_s=20, what="NATS is connected")
    # The link has lost the last bytes: of a piece, only the beginning has arrived.
    del received[-1000:]
    begin = 0
    while begin + LENGTH_BYTES + len(BUNDLE.frames[pieces[0]]) <= len(received):
        begin += LENGTH_BYTES + len(BUNDLE.frames[pieces.pop(0)])
    rest = await ask(edge, one, *pieces, offset=len(received) - begin - LENGTH_BYTES)
    assert rest.status == 200, rest.body
    assert received + rest.body[LENGTH_BYTES:] == whole


async def chunk_of(reader: asyncio.StreamReader, received: bytearray) -> None:
    """Add a chunk of an answer to what has arrived."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    received += await reader.readexactly(size)
    await reader.readexactly(2)


async def test_a_relay_that_stops_ends_what_it_has_begun(edge: Edge) -> None:
    one, two = await fetchers(edge, BUNDLE, 2)
    pieces = list(BUNDLE.frames)[:3]
    async with one.slowly(edge, edge.relays[0].workers_url, *pieces) as reader:
        await reader.readuntil(b"\r\n\r\n")
        edge.relays[0].parts.lifecycle.stop()
        assert metric(edge, ANSWERS) == 1
        assert (await ask(edge, two, pieces[0])).code == "draining"
        received = bytearray()
        while metric(edge, ANSWERS) or len(received) < len(BUNDLE.answer(*pieces)):
            await chunk_of(reader, received)
    assert received == BUNDLE.answer(*pieces)
