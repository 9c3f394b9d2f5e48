"""The Python files of a working tree, parsed."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOURCE = "source"
OTHERS = ("compose", "tests", "docs")
PARTS = (SOURCE, *OTHERS)


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes:
        part: One of `PARTS`.
        name: As it is imported; the name of the folder for an `__init__`.
        file: Relative to the root of the working tree.
    """

    part: str
    name: str
    file: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, str(self.file))

    @property
    def package(self) -> str:
        """The import package for source, otherwise the part."""
        return self.name.partition(".")[0] if self.part == SOURCE else self.part

    @property
    def is_special(self) -> bool:
        """An `__init__` or a `__main__`. These are not counted as modules of a folder."""
        return self.file.stem in {"__init__", "__main__"}

    @property
    def lines(self) -> int:
        """All lines, with blank ones and comments."""
        return self.text.count("\n")


def read(root: Path) -> list[Module]:
    """All modules below `root`: of each `*/src`, of compose, tests and docs, sorted by part and file."""
    folders = [(SOURCE, folder) for folder in sorted(root.glob("*/src"))]
    folders += [(part, root / part) for part in OTHERS]
    return [module for part, folder in folders for module in _below(root, part, folder)]


def packages(modules: Sequence[Module]) -> dict[str, list[Module]]:
    """The modules by their package, in the order in which they were read."""
    found: dict[str, list[Module]] = {}
    for module in modules:
        found.setdefault(module.package, []).append(module)
    return found


def _below(root: Path, part: str, folder: Path) -> Iterator[Module]:
    for file in sorted(folder.rglob("*.py")):
        inner = file.relative_to(folder)
        if any(name.startswith(".") for name in inner.parts):
            continue
        names = inner.parent.parts if inner.stem == "__init__" else inner.with_suffix("").parts
        yield Module(part, ".".join(names), file.relative_to(root), file.read_text(encoding="utf-8"))
