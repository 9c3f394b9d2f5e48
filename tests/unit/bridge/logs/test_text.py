"""Chunks of log files become lines, wherever a chunk was cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bridge.logs.text import Chunk, lines


def read(*chunks: tuple[str, int, bytes], complete: bool = True) -> list[str]:
    return list(lines((Chunk(*chunk) for chunk in chunks), complete=complete))


def test_a_chunk_may_end_within_a_line_and_within_a_character() -> None:
    data = "eins\nzwölf 🌍\n".encode()
    for cut in range(len(data)):
        assert read(("j", 0, data[:cut]), ("j", cut, data[cut:])) == ["eins", "zwölf 🌍"]


def test_an_unfinished_line_waits_for_its_end_while_the_task_lives() -> None:
    """A line that was shown is not shown again, not even when it has become longer."""
    assert read(("j", 0, b"one\ntw"), complete=False) == ["one"]
    assert read(("j", 0, b"one\ntw"), ("j", 6, b"o\n"), complete=False) == ["one", "two"]
    assert read(("j", 0, b"one\ntw"), complete=True) == ["one", "tw"]


def test_an_overlap_is_shown_once_and_a_gap_is_named() -> None:
    assert read(("j", 0, b"one\ntwo\n"), ("j", 4, b"two\nthree\n")) == ["one", "two", "three"]
    assert read(("j", 0, b"one\ntwo\n"), ("j", 0, b"one\n")) == ["one", "two"]
    assert read(("j", 100, b"late\n")) == ["[100 bytes of this log are no longer stored]", "late"]


def test_jobs_of_one_try_follow_each_other() -> None:
    """Dispatched, deferred, dispatched again; the end of the first file came late."""
    chunks = [("a", 0, b"a1\na2"), ("b", 0, b"b1\n"), ("a", 5, b"\na3\n"), ("b", 3, b"b2\n")]
    assert read(*chunks) == ["a1", "b1", "a2", "a3", "b2"]


def test_what_is_no_text_is_shown_as_far_as_it_can_be() -> None:
    assert read(("j", 0, b"\xff\xfeok\r\n")) == ["\ufffd\ufffdok"]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_cuts_never_matter(data: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [("j", a, data[a:b]) for a, b in itertools.pairwise(ends)]
    assert read(*chunks) == read(("j", 0, data))


@pytest.mark.parametrize("complete", [True, False])
def test_growing_never_changes_what_was_shown(*, complete: bool) -> None:
    """Airflow's page asks for the lines behind the last number it saw."""
    data = b"one\ntwo\nthree\nfour"
    shown: list[str] = []
    for end in range(len(data)):
        now = read(("j", 0, data[:end]), complete=False)
        assert now[: len(shown)] == shown
        shown = now
    assert read(("j", 0, data), complete=complete)[: len(shown)] == shown
