"""Modules per folder, lines of modules, functions and classes."""

import ast
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from structure.bounds import CLASSES, FOLDERS
from structure.sources import OTHERS, PARTS, SOURCE, Module, packages
from structure.tables import Measure, Row, Table

MODULES_PER_FOLDER = 12
MODULE_LINES = 250
FUNCTION_LINES = 60
CLASS_LINES = 150

_GROUPS = ("package or part", "count", "median", "p90", "max")


def folders(modules: Sequence[Module]) -> Measure:
    """Modules per folder. Only the modules directly in a folder count, without `__init__` and `__main__`."""
    rows: list[Row] = []
    crowded: list[Row] = []
    for part in PARTS:
        counts = Counter(str(m.file.parent) for m in modules if m.part == part and not m.is_special)
        above = {folder: count for folder, count in counts.items() if count > MODULES_PER_FOLDER}
        rows.append((part, len(counts), max(counts.values(), default=0), len(above)))
        crowded += [(part, folder, count) for folder, count in sorted(above.items(), key=lambda one: (-one[1], one[0]))]
    note = "The modules directly in a folder, without `__init__` and `__main__`."
    return Measure(
        [
            Table("Modules per folder", ("part", "folders", "most modules", f"above {MODULES_PER_FOLDER}"), rows, note),
            Table(f"Folders above {MODULES_PER_FOLDER} modules", ("part", "folder", "modules"), crowded),
        ],
        {FOLDERS: len(crowded)},
    )


def module_sizes(modules: Sequence[Module]) -> Measure:
    """Lines of modules."""
    sizes = {package: [m.lines for m in found if not m.is_special] for package, found in packages(modules).items()}
    large = sorted(
        ((m.package, str(m.file), m.lines) for m in modules if m.lines > MODULE_LINES),
        key=lambda row: (-row[2], row[1]),
    )
    note = "Lines of each file, with blank lines and comments; without `__init__` and `__main__`."
    return Measure(
        [
            Table("Module sizes", (*_GROUPS, f"above {MODULE_LINES}"), _statistics(sizes, MODULE_LINES), note),
            Table(f"Modules above {MODULE_LINES} lines", ("package or part", "module", "lines"), large),
        ]
    )


def function_sizes(modules: Sequence[Module]) -> Measure:
    """Lines of functions."""
    sizes = {
        package: [lines(node) for module in found for _, node in functions(module)]
        for package, found in packages(modules).items()
    }
    large = sorted(
        (
            (module.package, f"{module.file}:{name}", lines(node))
            for module in modules
            for name, node in functions(module)
            if lines(node) > FUNCTION_LINES
        ),
        key=lambda row: (-row[2], row[1]),
    )
    note = "From `def` to the last line, with the docstring, without decorators; methods and inner functions count."
    return Measure(
        [
            Table("Function sizes", (*_GROUPS, f"above {FUNCTION_LINES}"), _statistics(sizes, FUNCTION_LINES), note),
            Table(f"Functions above {FUNCTION_LINES} lines", ("package or part", "function", "lines"), large),
        ]
    )


def class_sizes(modules: Sequence[Module]) -> Measure:
    """Classes that are too long. The bound is for source only."""
    large = sorted(
        (
            (module.package, f"{module.file}:{node.lineno}", node.name, lines(node))
            for module in modules
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef) and lines(node) > CLASS_LINES
        ),
        key=lambda row: (row[0] in OTHERS, -row[3], row[2]),
    )
    note = "From `class` to the last line. The bound is for the source packages."
    return Measure(
        [Table(f"Classes above {CLASS_LINES} lines", ("package or part", "where", "class", "lines"), large, note)],
        {CLASSES: sum(row[0] not in OTHERS for row in large)},
    )


def lines(node: ast.stmt) -> int:
    """How many lines a statement spans."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each function with its dotted name inside the module."""
    todo: list[tuple[str, ast.AST]] = [("", module.tree)]
    while todo:
        prefix, parent = todo.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr):
                continue
            inner = prefix
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{prefix}{node.name}."
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{node.name}", node
            todo.append((inner, node))


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of all values does not exceed; 0 if there is none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0


def _statistics(sizes: dict[str, list[int]], bound: int) -> list[Row]:
    source = [values for group, values in sizes.items() if group not in OTHERS]
    groups = {SOURCE: list(chain.from_iterable(source)), **sizes}
    return [
        (
            "source together" if group == SOURCE else group,
            len(values),
            percentile(values, 0.5),
            percentile(values, 0.9),
            max(values, default=0),
            sum(value > bound for value in values),
        )
        for group, values in groups.items()
    ]
