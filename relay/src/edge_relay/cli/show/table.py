"""Aligned columns that fit the terminal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from unicodedata import combining, east_asian_width

from edge_relay.cli.show.screen import Cell, Colour, Screen

GAP = "  "
_NOTHING = ("", "-")
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
    _widths: dict[int, int] = field(default_factory=dict)

    def lines(self, rows: Iterable[Sequence[str | Cell]]) -> Iterator[str]:
        """The lines of these rows; before the first ones, the header."""
        cells = [[_cell(cell) for cell in row] for row in rows]
        if not self._widths:
            self._widths = self._fit(cells)
            yield self._line([Cell(column.header, Colour.STRONG) for column in self.columns])
        for row in cells:
            yield self._line(row)

    def _fit(self, rows: Sequence[Sequence[Cell]]) -> dict[int, int]:
        """The widths of the columns that are shown, by their position. On a terminal, empty ones are not."""
        natural = {
            i: max([cell_width(column.header), *(cell_width(row[i].text) for row in rows)])
            for i, column in enumerate(self.columns)
            if self.screen.width is None or not rows or any(row[i].text not in _NOTHING for row in rows)
        }
        if self.screen.width is None:
            return natural
        least = {i: min(width, LEAST_WIDTH) if self.columns[i].shrinks else width for i, width in natural.items()}
        while len(least) > 1 and _total(least) > self.screen.width:
            least.popitem()
        widths = {i: natural[i] for i in least}
        while _total(widths) > self.screen.width:
            shrinking = [i for i, width in widths.items() if width > least[i]]
            if not shrinking:
                break
            widths[max(shrinking, key=lambda i: widths[i])] -= 1
        return widths

    def _line(self, cells: Sequence[Cell]) -> str:
        parts = []
        for i, width in self._widths.items():
            text = cells[i].text if self.screen.width is None else cut(cells[i].text, width)
            padding = " " * max(0, width - cell_width(text))
            painted = self.screen.paint(text, cells[i].colour)
            parts.append(padding + painted if self.columns[i].right else painted + padding)
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


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _cell(cell: str | Cell) -> Cell:
    text, colour = cell if isinstance(cell, Cell) else (cell, None)
    return Cell("".join(char if char.isprintable() else "?" for char in text), colour)
