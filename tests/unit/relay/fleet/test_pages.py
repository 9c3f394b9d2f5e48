"""Pages: whatever comes and goes between two of them, what stays is shown exactly once and in order."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_relay.fleet.lists.pages import Column, Order, encode_cursor, page
from edge_schemas.wire.errors import EdgeError


@dataclass(frozen=True)
class Row:
    """A row of any list."""

    id: str
    text: str
    number: float | None


ORDER: Order[Row] = Order(
    {
        "id": Column(lambda row: row.id, is_text=True),
        "text": Column(lambda row: row.text or None, is_text=True),
        "number": Column(lambda row: row.number),
    },
    lambda row: row.id,
)
SORTS = st.sampled_from([sign + name for name in ORDER.columns for sign in ("", "-")])
ROWS = st.lists(
    st.builds(
        Row,
        id=st.text("abcé.", min_size=1, max_size=3),
        text=st.text("xyZü", max_size=2),
        number=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float),
    ),
    unique_by=lambda row: row.id,
    max_size=25,
)


def all_pages(rows_at: Callable[[int], list[Row]], sort: str, limit: int) -> list[Row]:
    """The rows of one page after the other; `rows_at` gives the rows as they are at a page."""
    found: list[Row] = []
    cursor, number = None, 0
    while True:
        shown = page(rows_at(number), ORDER, sort=sort, cursor=cursor, limit=limit)
        assert len(shown.rows) <= limit
        found += shown.rows
        cursor, number = shown.next, number + 1
        if cursor is None:
            return found


@given(rows=ROWS, sort=SORTS, limit=st.integers(1, 7))
def test_all_pages_together_are_the_sorted_list(rows: list[Row], sort: str, limit: int) -> None:
    found = all_pages(lambda _: rows, sort, limit)
    column = ORDER.columns[sort.removeprefix("-")]
    known = [row for row in rows if column.value(row) is not None]
    unknown = [row for row in rows if column.value(row) is None]
    is_down = sort.startswith("-")

    def key(row: Row) -> tuple[str | float, str]:
        value = column.value(row)
        assert value is not None
        return value, row.id

    wanted = sorted(known, key=key, reverse=is_down)
    wanted += sorted(unknown, key=lambda row: row.id, reverse=is_down)
    assert found == wanted


@given(stay=ROWS, others=ROWS, there=st.lists(st.booleans(), min_size=25), sort=SORTS, limit=st.integers(1, 5))
def test_rows_that_come_and_go_neither_repeat_nor_hide_others(
    stay: list[Row], others: list[Row], there: list[bool], sort: str, limit: int
) -> None:
    names = {row.id for row in stay}
    moving = [row for row in others if row.id not in names]

    def rows_at(number: int) -> list[Row]:
        return stay + [row for index, row in enumerate(moving) if there[(number + index) % len(there)]]

    found = all_pages(rows_at, sort, limit)
    assert len({row.id for row in found}) == len(found), "no row is shown twice"
    wanted = all_pages(lambda _: stay, sort, 1000)
    assert [row for row in found if row.id in names] == wanted


@given(cursor=st.text(max_size=40), sort=SORTS)
def test_what_is_no_cursor_is_refused(cursor: str, sort: str) -> None:
    with pytest.raises(EdgeError, match="cursor"):
        page([Row("a", "b", 1)], ORDER, sort=sort, cursor=cursor, limit=1)


def test_a_cursor_belongs_to_one_sort_and_one_kind_of_value() -> None:
    rows = [Row("a", "b", 1)]
    for cursor in (
        encode_cursor("id", "a", "a"),
        encode_cursor("number", "a", "a"),
        encode_cursor("number", True, "a"),
    ):
        with pytest.raises(EdgeError, match="same sort"):
            page(rows, ORDER, sort="number", cursor=cursor, limit=1)
