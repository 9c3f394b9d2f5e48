"""Time limits of bodies by progress."""

import asyncio

import pytest

from edge_service import body_progress
from edge_service.body_progress import BodyStalled, BodyTooLarge, Exchange, read_body


class Stream:
    """Gives a piece of so many bytes after each pause, and ends after the last one."""

    def __init__(self, pauses: list[float], size: int) -> None:
        self._pauses = pauses
        self._size = size

    async def readany(self) -> bytes:
        if not self._pauses:
            return b""
        await asyncio.sleep(self._pauses.pop(0))
        return b"x" * self._size

    def is_eof(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_progress, "STALL_S", 0.4)
    monkeypatch.setattr(body_progress, "SLOWEST_BYTES_PER_S", 1000)


class Whole:
    """A body that has arrived as a whole."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def is_eof(self) -> bool:
        return True


async def test_a_body_that_has_arrived_is_counted_and_limited_like_any_other() -> None:
    counted: list[int] = []
    assert await read_body(Whole(b"ab", b"c"), limit=3, on_bytes=counted.append) == b"abc"
    assert counted == [2, 1]
    with pytest.raises(BodyTooLarge):
        await read_body(Whole(b"ab", b"cd"), limit=3)


async def test_a_body_that_moves_arrives_however_long_it_takes() -> None:
    # 2000 bytes/s for three times as long as a body may stand still.
    assert len(await read_body(Stream([0.05] * 24, 100))) == 2400


async def test_a_body_may_pause() -> None:
    assert len(await read_body(Stream([0.2, 0.2, 0.2, 0.2], 1000))) == 4000


async def test_a_body_that_stands_still_ends() -> None:
    with pytest.raises(BodyStalled, match=r"stood still for 0\.4 s"):
        await read_body(Stream([0, 5], 1000))


async def test_a_body_that_drips_ends() -> None:
    """It never stands still, and would keep its reader busy for hours."""
    with pytest.raises(BodyStalled):
        await read_body(Stream([0.02] * 1000, 1))


async def test_a_body_beyond_the_limit_is_not_read_to_its_end() -> None:
    stream = Stream([0] * 100, 10)
    with pytest.raises(BodyTooLarge):
        await read_body(stream, limit=25)
    assert len(await read_body(stream)) == 970


async def test_a_time_limit_of_the_reader_is_not_taken_for_a_stall() -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await read_body(Stream([5], 1))
    assert not isinstance(caught.value, BodyStalled)


async def send(exchange: Exchange, pauses: list[float]) -> None:
    """Takes pieces as a connection does."""
    assert exchange.body is not None
    for pause in pauses:
        assert exchange.body.read()
        await asyncio.sleep(pause)


async def test_a_request_that_moves_has_all_the_time() -> None:
    body = b"x" * (4 * body_progress.PIECE_BYTES)
    async with Exchange(body, answer_s=0.1) as exchange:
        await send(exchange, [0.3] * 4)


async def test_a_request_that_stands_still_ends() -> None:
    with pytest.raises(BodyStalled):
        async with Exchange(b"x" * (4 * body_progress.PIECE_BYTES), answer_s=0.1) as exchange:
            await send(exchange, [0, 5])


async def test_an_answer_that_does_not_begin_ends_the_exchange() -> None:
    with pytest.raises(TimeoutError, match="no answer within"):
        async with Exchange(b"", answer_s=0.05):
            await asyncio.sleep(5)


async def test_an_answer_that_has_begun_is_limited_by_its_progress_alone() -> None:
    async with Exchange(b"x" * (2 * body_progress.PIECE_BYTES), answer_s=0.05) as exchange:
        await send(exchange, [0])
        exchange.begun()
        # It may begin before the request is sent completely: a refusal.
        await send(exchange, [0.5])
