"""Pages of a list, without I/O: order, cursor, and the rows behind it.

A cursor names the last row by its sort value and its id. So rows that come or go between two pages neither repeat nor
hide others; a row whose sort value changes meanwhile may be shown twice or not at all.
"""

import base64
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import orjson

from edge_schemas.wire.errors import EdgeError, ErrorCode

Row = TypeVar("Row")
Value = str | float
"""By what rows are sorted; a time as Unix time."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column that a list can be sorted by.

    Attributes:
        value: Of a row; None comes last in both directions.
        is_text: Whether the values are text, otherwise they are numbers.
    """

    value: Callable[[Row], Value | None]
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Order(Generic[Row]):
    """The columns of a list and what identifies a row."""

    columns: Mapping[str, Column[Row]]
    id_of: Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """The rows of a page, how many all pages have, and the cursor of the next one."""

    rows: list[Row]
    total: int
    next: str | None


def page(rows: Iterable[Row], order: Order[Row], *, sort: str, cursor: str | None, limit: int) -> Slice[Row]:
    """One page of rows that were filtered already.

    Raises:
        EdgeError: `invalid_request`: the cursor is not one of this order.
    """
    descending = sort.startswith("-")
    column = order.columns[sort.removeprefix("-")]
    after = None if cursor is None else _decode(cursor, sort, is_text=column.is_text)
    value_of, id_of = column.value, order.id_of
    known: list[tuple[Value, str, Row]] = []
    unknown: list[tuple[str, Row]] = []
    total = 0
    for row in rows:
        total += 1
        value = value_of(row)
        if value is None:
            unknown.append((id_of(row), row))
        else:
            known.append((value, id_of(row), row))
    if after is not None:
        known, unknown = _behind(known, unknown, after, descending=descending)
    # Ids differ, so rows themselves are never compared.
    choose = heapq.nlargest if descending else heapq.nsmallest
    found: list[tuple[Value | None, str, Row]] = []
    found += choose(limit + 1, known)
    if len(found) <= limit:
        rest = choose(limit + 1 - len(found), unknown)
        found += [(None, name, row) for name, row in rest]
    shown = found[:limit]
    more = len(found) > limit
    return Slice([row for _, _, row in shown], total, encode_cursor(sort, *shown[-1][:2]) if more else None)


def _behind(
    known: list[tuple[Value, str, Row]],
    unknown: list[tuple[str, Row]],
    after: tuple[Value | None, str],
    *,
    descending: bool,
) -> tuple[list[tuple[Value, str, Row]], list[tuple[str, Row]]]:
    """The rows behind a cursor."""
    value, name = after
    if value is None:
        return [], [one for one in unknown if (one[0] < name if descending else one[0] > name)]
    last = (value, name)
    if descending:
        return [one for one in known if one[:2] < last], unknown
    return [one for one in known if one[:2] > last], unknown


def encode_cursor(sort: str, value: Value | None, name: str) -> str:
    """A cursor as text that is safe in a URL."""
    return base64.urlsafe_b64encode(orjson.dumps([sort, value, name])).rstrip(b"=").decode()


def bad_cursor() -> EdgeError:
    """The answer to a cursor that is none, or belongs to another order."""
    return EdgeError(
        ErrorCode.INVALID_REQUEST,
        "cursor: must be `next` of an earlier page of this list with the same sort; leave it out for the first page",
    )


def _decode(cursor: str, sort: str, *, is_text: bool) -> tuple[Value | None, str]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise bad_cursor() from None
    match found:
        case [str() as of_sort, None | str() | int() | float() as value, str() as name] if of_sort == sort:
            is_right = value is None or (isinstance(value, str) if is_text else not isinstance(value, str | bool))
            if is_right:
                return value, name
    raise bad_cursor()


def unix(at: datetime | None) -> float | None:
    """A time as the value of a column."""
    return None if at is None else at.timestamp()
