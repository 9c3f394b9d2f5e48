"""A line of any length stays one line, and a JSON object stays one, with its level."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bridge.logs import long_lines
from edge_bridge.logs.long_lines import MAX_LINE_BYTES, LineBuffer
from edge_bridge.logs.text import Chunk, lines

HALF = 200


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lines are shortened from 400 bytes on."""
    with monkeypatch.context() as patch:
        patch.setattr(long_lines, "_HALF", HALF)
        yield


def taken(data: bytes, piece: int = 64) -> str:
    """The line, fed in pieces."""
    buffer = LineBuffer()
    for start in range(0, len(data), piece):
        buffer.add(data[start : start + piece])
    line = buffer.take()
    assert not buffer
    return line


def test_a_line_at_the_limit_is_whole_and_a_longer_one_says_what_is_missing() -> None:
    assert taken(b"x" * MAX_LINE_BYTES, 1 << 20) == "x" * MAX_LINE_BYTES
    longer = taken(b"x" * (MAX_LINE_BYTES + 1000), 1 << 20)
    kept = longer.count("x")
    assert f" [{MAX_LINE_BYTES + 1000 - kept} bytes left out] " in longer
    assert MAX_LINE_BYTES - 100 < kept <= MAX_LINE_BYTES


def test_a_file_without_line_ends_is_one_line() -> None:
    chunks = [Chunk("j", number << 20, b"x" * (1 << 20)) for number in range(40)]
    (line,) = lines(chunks, complete=True)
    assert len(line) < MAX_LINE_BYTES + 100
    assert list(lines(chunks, complete=False)) == []


LETTERS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@pytest.mark.usefixtures("short")
@given(letters=LETTERS, is_ascii=st.booleans(), before=st.integers(0, 20), after=st.integers(0, 20))
def test_a_long_record_stays_an_object_with_its_level(letters: str, before: int, after: int, *, is_ascii: bool) -> None:
    record = {"level": "error", "x": "b" * before, "event": letters * 1000, "y": "a" * after, "logger": "task"}
    line = taken(json.dumps(record, ensure_ascii=is_ascii).encode())
    found = json.loads(line)
    assert (found["level"], found["logger"]) == ("error", "task")
    assert "bytes left out" in found["event"] or "shortened" in found["event"]
    found["event"].encode()  # no half of a pair of surrogates


@pytest.mark.usefixtures("short")
def test_a_record_that_is_long_in_many_places_shows_its_beginning() -> None:
    record = {"event": "many", "list": ["x" * 30] * 100, "level": "warning", "timestamp": "2026-01-01T00:00:00Z"}
    found = json.loads(taken(json.dumps(record).encode()))
    assert (found["level"], found["timestamp"]) == ("warning", "2026-01-01T00:00:00Z")
    assert found["event"].startswith('{"event": "many"')


@pytest.mark.usefixtures("short")
def test_a_text_of_backslashes_cannot_be_cut_and_is_shown_all_the_same() -> None:
    found = json.loads(taken(json.dumps({"level": "info", "event": "\\" * 5000}).encode()))
    assert found["level"] == "info"
