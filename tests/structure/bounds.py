"""The bounds that `--check` checks, and their table."""

from collections.abc import Mapping

from structure.tables import Table

FOLDERS = "folders above 12 modules"
CLASSES = "classes above 150 lines in source"
MODULE_CIRCLES = "import circles of modules"
FOLDER_CIRCLES = "import circles of folders"
ANY = "uses of Any in source"
IGNORES = "type: ignore without a reason"
HOPS = "changes of file on the call path of a job"

BOUNDS = {FOLDERS: 0, CLASSES: 5, MODULE_CIRCLES: 0, FOLDER_CIRCLES: 0, ANY: 120, IGNORES: 0, HOPS: 30}
"""The highest value allowed."""


def broken(figures: Mapping[str, int | None]) -> list[str]:
    """The bounds that do not hold. A figure that could not be measured breaks its bound."""
    return [name for name, bound in BOUNDS.items() if (figure := figures.get(name)) is None or figure > bound]


def summary(figures: Mapping[str, int | None]) -> Table:
    """Each bound with its figure."""
    failed = broken(figures)
    rows = []
    for name, bound in BOUNDS.items():
        figure = figures.get(name)
        rows.append((name, "not measured" if figure is None else figure, bound, "no" if name in failed else "yes"))
    return Table("Bounds", ("measure", "now", "at most", "holds"), rows)
