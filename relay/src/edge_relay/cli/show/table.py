"""Aligned columns that fit the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from unicodedata import combining, east_asian_width

from edge_relay.cli.show.screen import Cell, Colour, Screen

GAP = "  "
LEAST_WIDTH = 8
"""A column is not made narrower than this; rather the last columns are left out."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        right: Numbers are aligned at the right.
        shrinks: May be cut on a narrow terminal. Names that people copy are not.
    """

    header: str
    right: bool = False
    shrinks: bool = False


@dataclass
class Table:
    """Columns, the most important first. Their widths are kept from one page of rows to the next.

    Attributes:
        columns: On a narrow terminal those that shrink are cut; then the last ones are left out.
    """

    columns: Sequence[Column]
    screen: Screen
    _widths: list[int] = field(default_factory=list)

    def lines(self, rows: Iterable[Sequence[str | Cell]]) -> Iterator[str]:
        """The lines of these rows; before the first ones, the header."""
        cells = [[_cell(cell) for cell in row] for row in rows]
        is_first = not self._widths
        natural = [
            max([cell_width(column.header), *(cell_width(row[i].text) for row in cells)])
            for i, column in enumerate(self.columns)
        ]
        if is_first:
            self._widths = self._fit(natural)
            header = [Cell(column.header, Colour.STRONG) for column in self.columns]
            yield self._line(header)
        for row in cells:
            yield self._line(row)

    def _fit(self, natural: list[int]) -> list[int]:
        """The widths; as many as there are columns that fit."""
        if self.screen.width is None:
            return natural
        least = [
            min(width, LEAST_WIDTH) if column.shrinks else width
            for width, column in zip(natural, self.columns, strict=True)
        ]
        shown = len(natural)
        while shown > 1 and _total(least[:shown]) > self.screen.width:
            shown -= 1
        widths = natural[:shown]
        while _total(widths) > self.screen.width:
            room = [width - at_least for width, at_least in zip(widths, least[:shown], strict=True)]
            if not any(room):
                break
            widest = max((i for i in range(shown) if room[i]), key=lambda i: widths[i])
            widths[widest] -= 1
        return widths

    def _line(self, cells: Sequence[Cell]) -> str:
        parts = []
        for column, width, cell in zip(self.columns, self._widths, cells, strict=False):
            text = cell.text if self.screen.width is None else cut(cell.text, width)
            padding = " " * max(0, width - cell_width(text))
            painted = self.screen.paint(text, cell.colour)
            parts.append(padding + painted if column.right else painted + padding)
        return GAP.join(parts).rstrip()


def cell_width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """The text within this width; an ellipsis shows that something is missing."""
    if cell_width(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += cell_width(char)
        if used > width - 1:
            break
        kept += char
    return f"{kept}…"


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _cell(cell: str | Cell) -> Cell:
    text, colour = cell if isinstance(cell, Cell) else (cell, None)
    return Cell("".join(char if char.isprintable() else "?" for char in text), colour)
