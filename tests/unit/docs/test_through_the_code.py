"""The contributor's way through the code names functions that exist, each called by a step before it.

A step that no earlier step calls says how it is reached: *(over HTTPS)*.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/contributing/through-the-code.md"
SOURCES = [ROOT / folder / "src" for folder in ("schemas", "relay", "bridge", "edge_worker")]
_NAME = re.compile(r"`(edge_\w+(?:\.\w+)+)`")
_STEP = re.compile(r"\d+\. `(?P<name>[\w.]+)`(?P<reached> \*\(.+?\)\*)?:? ")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Step:
    """A numbered line of the page."""

    name: str
    says_how_reached: bool


def ways() -> dict[str, list[Step]]:
    """The numbered steps under each heading."""
    found: dict[str, list[Step]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        matches = [match for line in text.splitlines() if (match := _STEP.match(line))]
        found[heading] = [Step(match["name"], match["reached"] is not None) for match in matches]
    return found


@cache
def definition(dotted: str) -> Definition | None:
    """Of a function, method or class, by module and name."""
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        for source in SOURCES:
            stem = source.joinpath(*parts[:length])
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if path.exists():
                    return _inside(ast.parse(path.read_text(encoding="utf-8")), parts[length:])
    return None


def _inside(node: ast.Module | Definition, names: list[str]) -> Definition | None:
    for child in node.body:
        if isinstance(child, Definition) and child.name == names[0]:
            return child if len(names) == 1 else _inside(child, names[1:])
    return None


def mentions(caller: str, called: str) -> Iterator[int]:
    """The lines in a function that name another one, to call it or to hand it on."""
    body = definition(caller)
    last = called.rpartition(".")[2]
    for node in ast.walk(body) if body is not None else ():
        if (isinstance(node, ast.Attribute) and node.attr == last) or (isinstance(node, ast.Name) and node.id == last):
            yield node.lineno


@pytest.mark.parametrize("name", sorted(set(_NAME.findall(PAGE.read_text(encoding="utf-8")))))
def test_each_name_exists(name: str) -> None:
    assert definition(name) is not None


@pytest.mark.parametrize("heading", ways())
def test_steps_are_in_the_order_of_their_calls(heading: str) -> None:
    steps = ways()[heading]
    assert len(steps) > 5
    latest: dict[str, int] = {}
    for number, step in enumerate(steps):
        earlier = [(one.name, list(mentions(one.name, step.name))) for one in reversed(steps[:number])]
        caller, lines = next(((name, lines) for name, lines in earlier if lines), ("", []))
        if step.says_how_reached and not caller:
            continue
        assert caller, f"step {number + 1}, {step.name}: no earlier step calls it; say how it is reached"
        assert max(lines) >= latest.get(caller, 0), f"step {number + 1}, {step.name}: called before the step above it"
        latest[caller] = min(line for line in lines if line >= latest.get(caller, 0))
