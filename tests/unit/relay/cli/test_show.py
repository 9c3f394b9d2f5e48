"""Tables and times for people."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_relay.cli.show.screen import Cell, Colour, Screen, words
from edge_relay.cli.show.table import Column, Table, cell_width, cut

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
COLUMNS = (Column("NAME"), Column("QUEUES", shrinks=True), Column("RUNS", right=True), Column("NOTE", shrinks=True))
ROW = ("plant-7-abc123", "a-very-long-name-of-a-queue,another-one", "12", "the disk is nearly full")


@pytest.mark.parametrize("width", range(16, 120, 7))
def test_a_table_fits_the_terminal_and_keeps_names_whole(width: int) -> None:
    lines = list(Table(COLUMNS, Screen(width=width)).lines([ROW, ROW]))
    assert len(lines) == 3
    assert all(cell_width(line) <= width for line in lines), lines
    assert all(line.startswith("plant-7-abc123") for line in lines[1:])


def test_without_a_terminal_nothing_is_cut_and_nothing_is_coloured() -> None:
    [header, line] = Table(COLUMNS, Screen()).lines([(Cell(ROW[0], Colour.BAD), *ROW[1:])])
    assert header.split() == ["NAME", "QUEUES", "RUNS", "NOTE"]
    assert line == "plant-7-abc123  a-very-long-name-of-a-queue,another-one    12  the disk is nearly full"


def test_later_pages_have_the_same_columns_and_no_second_header() -> None:
    table = Table(COLUMNS, Screen())
    first, second = list(table.lines([ROW])), list(table.lines([("x", "y", "1", "z")]))
    assert len(second) == 1
    assert second[0].index("1  z") + 1 == first[1].index("12  the") + 2


def test_control_characters_of_others_never_reach_the_terminal() -> None:
    [_, line] = Table((Column("NAME"),), Screen(width=80, colours=True)).lines([("\x1b[2Jgone\r\n\u202e",)])
    assert line == "?[2Jgone???"


def test_wide_characters_take_two_columns() -> None:
    assert cell_width("工場-7") == 6
    assert cut("工場-工場", 6) == "工場-…"
    [_, one, two] = Table((Column("A"), Column("B")), Screen(width=80)).lines([("工場", "x"), ("abcd", "x")])
    assert cell_width(one) == cell_width(two)


def test_colours_do_not_change_the_alignment() -> None:
    table = Table((Column("STATE"), Column("N", right=True)), Screen(width=80, colours=True))
    [_, line] = table.lines([(Cell("online", Colour.GOOD), "1")])
    assert line == "\x1b[32monline\x1b[0m  1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert words(seconds) == text


def test_times_in_words_or_exactly() -> None:
    at = NOW - timedelta(minutes=5)
    assert Screen(now=NOW).ago(at) == "5 min ago"
    assert Screen(now=NOW).since(at) == "5 min"
    assert Screen(now=NOW, exact=True).ago(at) == Screen(exact=True).since(at) == "2026-11-29T11:55:00Z"
    assert Screen(now=NOW).ago(None) == "never"
    assert Screen(now=NOW).until(NOW + timedelta(hours=3)).endswith("(in 3 h)")


def test_columns_without_anything_are_left_out_on_a_terminal_only() -> None:
    columns = (Column("NAME"), Column("TEAM"), Column("NOTE"))
    rows = [("a", "-", "x"), ("b", "", "-")]
    assert next(Table(columns, Screen(width=80)).lines(rows)).split() == ["NAME", "NOTE"]
    assert next(Table(columns, Screen()).lines(rows)).split() == ["NAME", "TEAM", "NOTE"]
