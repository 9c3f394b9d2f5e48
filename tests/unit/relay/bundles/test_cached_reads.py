"""Values are read once for all who wait, kept within their bound, and a failed or cancelled reader harms no other."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.bundles.cached_reads import CachedReads, Source
from edge_relay.bundles.delivery import BLOCK_BYTES, GROUP_BYTES, blocks, in_groups
from edge_schemas.bundles.pieces import PIECE_BYTES, length_of


class Store:
    """Has every value but those that begin with `no`; answers when it is allowed to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()
        self.fails = False

    async def read(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        self.asked.append(list(digests))
        await self.open.wait()
        if self.fails:
            raise BrokerUnavailable("gone")
        return {digest: digest.encode() * 10 for digest in digests if not digest.startswith("no")}


def reads(store: Store, most_bytes: int = 1000) -> tuple[CachedReads[bytes], dict[Source, int]]:
    counts = dict.fromkeys(Source, 0)

    def count(source: Source, number: int) -> None:
        counts[source] += number

    return CachedReads(store.read, size=len, most_bytes=most_bytes, count=count), counts


async def begun(*calls: asyncio.Task[dict[str, bytes]]) -> None:
    """Let these calls reach their first wait."""
    for _ in range(3 * len(calls)):
        await asyncio.sleep(0)


async def test_those_who_wait_share_a_read() -> None:
    store = Store()
    cached, counts = reads(store)
    one = asyncio.create_task(cached.get(["a", "b", "no1"]))
    await begun(one)
    two = asyncio.create_task(cached.get(["b", "c", "no1"]))
    await begun(two)
    store.open.set()
    assert await one == {"a": b"a" * 10, "b": b"b" * 10}
    assert await two == {"b": b"b" * 10, "c": b"c" * 10}
    assert store.asked == [["a", "b", "no1"], ["c"]]
    assert await cached.get(["c", "a"]) == {"a": b"a" * 10, "c": b"c" * 10}
    assert counts == {Source.NATS: 4, Source.SHARED: 2, Source.MEMORY: 2}
    assert await cached.get(["no1"]) == {}, "what is missing is asked for again"
    assert store.asked[-1] == ["no1"]


async def test_a_failure_is_for_all_who_wait_and_not_for_the_next() -> None:
    store = Store()
    cached, _ = reads(store)
    calls = [asyncio.create_task(cached.get(["a"])) for _ in range(3)]
    await begun(*calls)
    store.fails = True
    store.open.set()
    for call in calls:
        with pytest.raises(BrokerUnavailable):
            await call
    assert len(store.asked) == 1
    store.fails = False
    assert await cached.get(["a"]) == {"a": b"a" * 10}


async def test_a_reader_that_leaves_hands_over() -> None:
    store = Store()
    cached, _ = reads(store)
    calls = [asyncio.create_task(cached.get(["a"])) for _ in range(3)]
    await begun(*calls)
    calls[0].cancel()
    await begun(*calls)
    store.open.set()
    assert [await call for call in calls[1:]] == [{"a": b"a" * 10}] * 2
    assert len(store.asked) == 2


async def test_what_is_kept_is_bounded_and_the_least_used_goes_first() -> None:
    store = Store()
    store.open.set()
    cached, _ = reads(store, most_bytes=30)
    await cached.get(["a", "b", "c"])
    await cached.get(["a"])
    await cached.get(["d"])
    assert cached.kept_bytes == 30
    await cached.get(["a", "c", "d"])
    assert store.asked == [["a", "b", "c"], ["d"]]
    await cached.get(["b"])
    await cached.get(["x" * 4])
    assert cached.kept_bytes == 30, "a value that is too large is not kept"
    none, _ = reads(store, most_bytes=0)
    assert await none.get(["a"]) == {"a": b"a" * 10}
    assert none.kept_bytes == 0


def test_a_group_has_little_memory() -> None:
    sizes = {f"{number}": size for number, size in enumerate([PIECE_BYTES] * 3 + [10] * 20_000)}
    groups = in_groups(list(sizes), sizes)
    assert [piece for group in groups for piece in group] == list(sizes)
    assert all(sum(sizes[piece] for piece in group) <= GROUP_BYTES for group in groups)
    assert [len(group) for group in groups[:2]] == [1, 1]
    assert len(groups) < 8


@pytest.mark.parametrize("offset", [0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES])
def test_blocks_are_the_frames_with_their_lengths(offset: int) -> None:
    frames = [b"a" * (3 * BLOCK_BYTES), b"", b"b" * 10, *[b"c"] * 100, b"d" * (BLOCK_BYTES + 1)]
    found = list(blocks(frames, offset))
    whole = b"".join(length_of(frame) + frame for frame in frames)
    assert b"".join(found) == whole[:4] + whole[4 + offset :]
    assert all(0 < len(block) < 2 * BLOCK_BYTES + 8 for block in found)
    assert len(found) <= len(whole) // BLOCK_BYTES + 2
