"""Import circles, and modules that have one importer."""

import ast
from collections.abc import Iterable, Mapping, Sequence

from structure.bounds import FOLDER_CIRCLES, MODULE_CIRCLES
from structure.sources import SOURCE, Module, packages
from structure.tables import Measure, Row, Table

Graph = Mapping[str, Iterable[str]]


def imported(module: Module, known: Iterable[str]) -> set[str]:
    """The known modules that a module imports, anywhere in its text.

    `from folder import name` is an import of `folder.name` if that is a module, otherwise of the folder's `__init__`.
    That importing `folder.name` also runs the `__init__` of `folder` is not counted. Relative imports are banned.
    """
    known = set(known)
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known - {module.name}


def import_graph(modules: Sequence[Module]) -> dict[str, set[str]]:
    """Who imports whom."""
    known = {module.name for module in modules}
    return {module.name: imported(module, known) for module in modules if module.file.stem != "__main__"}


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components with more than one member."""
    reached = {node: _reached(graph, node) for node in graph}
    found = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph}
    return sorted(sorted(members) for members in found if len(members) > 1)


def folder_circles(graph: Graph) -> list[list[str]]:
    """Circles between neighbours in one folder, where a subfolder counts as one with all that is below it.

    A circle of modules only is left to `circles`. The folder's own `__init__` is no neighbour of what is in it.
    """
    folders = sorted({folder for name in graph for folder in _folders(name)})
    found = []
    for folder in folders:
        inner: dict[str, set[str]] = {}
        for name, targets in graph.items():
            if (node := _child(folder, name)) is not None:
                inner.setdefault(node, set()).update(_children(folder, targets) - {node})
        found += [circle for circle in circles(inner) if any(name in folders for name in circle)]
    return found


def import_circles(modules: Sequence[Module]) -> Measure:
    """Circles of modules and of folders, for each source package."""
    found = packages([module for module in modules if module.part == SOURCE])
    graphs = {package: import_graph(inside) for package, inside in found.items()}
    of_modules: list[Row] = [(name, ", ".join(one)) for name, graph in graphs.items() for one in circles(graph)]
    of_folders: list[Row] = [(name, ", ".join(one)) for name, graph in graphs.items() for one in folder_circles(graph)]
    return Measure(
        [
            Table(
                "Import circles of modules",
                ("package", "circle"),
                of_modules,
                "Imports under TYPE_CHECKING and inside functions count.",
            ),
            Table(
                "Import circles of folders",
                ("package", "circle"),
                of_folders,
                "Between neighbours in one folder, where a subfolder counts as one with all that is below it.",
            ),
        ],
        {MODULE_CIRCLES: len(of_modules), FOLDER_CIRCLES: len(of_folders)},
    )


def single_importers(modules: Sequence[Module]) -> Measure:
    """Modules of source that one module of source imports."""
    source = [module for module in modules if module.part == SOURCE]
    known = {module.name for module in source}
    importers: dict[str, list[str]] = {name: [] for name in known}
    for module in source:
        for target in imported(module, known):
            importers[target].append(module.name)
    rows: list[Row] = []
    named: list[Row] = []
    for package, inside in packages(source).items():
        counted = [module.name for module in inside if not module.is_special]
        single = [name for name in counted if len(importers[name]) == 1]
        rows.append((package, len(counted), len(single), sum(not importers[name] for name in counted)))
        named += [(package, name, importers[name][0]) for name in single]
    note = "Importers are the modules of all source packages; tests do not count. Entry points have no importer."
    return Measure(
        [
            Table("Importers", ("package", "modules", "with one importer", "without importer"), rows, note),
            Table("Modules with a single importer", ("package", "module", "importer"), named),
        ]
    )


def _reached(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    todo = list(graph[start])
    while todo:
        node = todo.pop()
        if node not in reached:
            reached.add(node)
            todo += graph.get(node, ())
    return reached


def _folders(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _child(folder: str, name: str) -> str | None:
    if not name.startswith(f"{folder}."):
        return None
    return f"{folder}.{name[len(folder) + 1 :].partition('.')[0]}"


def _children(folder: str, names: Iterable[str]) -> set[str]:
    return {child for name in names if (child := _child(folder, name)) is not None}
