"""Public modules, classes and functions without a docstring."""

import ast
from collections.abc import Iterator, Sequence

from structure.sizes import lines
from structure.sources import Module
from structure.tables import Measure, Row, Table

_MOST = 10
_PARTS = ("source", "compose", "docs")


def public_things(module: Module) -> Iterator[tuple[str, int, bool]]:
    """Each public thing of a module: its name, its lines, and whether it has a docstring.

    Private names and their members do not count, nor do inner functions, magic methods, overloads and setters.
    """
    if any(name.startswith("_") and not name.startswith("__") for name in module.name.split(".")):
        return
    yield module.name, module.lines, ast.get_docstring(module.tree) is None
    yield from _members(module.tree, module.name)


def docstring_table(modules: Sequence[Module]) -> Measure:
    """How many public things have no docstring, and the longest of them."""
    rows: list[Row] = []
    bare: list[tuple[str, int]] = []
    for part in _PARTS:
        things = [thing for module in modules if module.part == part for thing in public_things(module)]
        missing = [(name, length) for name, length, is_bare in things if is_bare]
        rows.append((part, len(things), len(missing)))
        bare += missing
    bare.sort(key=lambda one: (-one[1], one[0]))
    note = (
        "Modules, classes, functions and methods without a leading `_`. Tests do not count: their names document them."
    )
    return Measure(
        [
            Table("Public things without a docstring", ("part", "public", "without"), rows, note),
            Table(f"The {_MOST} longest without a docstring", ("name", "lines"), bare[:_MOST]),
        ]
    )


def _members(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, int, bool]]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if any(_is_exempt(decorator) for decorator in node.decorator_list):
            continue
        name = f"{prefix}.{node.name}"
        yield name, lines(node), ast.get_docstring(node) is None
        if isinstance(node, ast.ClassDef):
            yield from _members(node, name)


def _is_exempt(decorator: ast.expr) -> bool:
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in {"overload", "override", "setter", "deleter"}
