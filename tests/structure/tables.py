"""What a measure returns, and how it is printed: Markdown that is also readable in a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Row = Sequence[object]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        note: How the figures are counted.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""

    def text(self) -> str:
        """The table with its title."""
        head = f"### {self.title}\n\n" + (f"{self.note}\n\n" if self.note else "")
        if not self.rows:
            return f"{head}None.\n"
        cells = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        numbers = [all(isinstance(row[column], int) for row in self.rows) for column in range(len(self.columns))]
        lines = [_line(row, widths, numbers) for row in cells]
        lines.insert(
            1,
            _line(
                [
                    "-" * (width - 1) + ":" if number else "-" * width
                    for width, number in zip(widths, numbers, strict=True)
                ],
                widths,
                numbers,
            ),
        )
        return head + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Measure:
    """Tables and the figures in them that have a bound, by the name of the bound."""

    tables: Sequence[Table]
    figures: Mapping[str, int | None] = field(default_factory=dict)


def _line(row: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    cells = (
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(row, widths, numbers, strict=True)
    )
    return f"| {' | '.join(cells)} |"
