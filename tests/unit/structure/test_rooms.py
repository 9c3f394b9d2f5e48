"""What the docstring of a room says about its imports is what its modules import."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from structure.imports import import_graph
from structure.sources import SOURCE, Module, read

ROOT = Path(__file__).parents[3]
MODULES = [module for module in read(ROOT) if module.part == SOURCE]
PACKAGES = {module.package for module in MODULES}
GRAPH = import_graph(MODULES)
RULE = re.compile(r"^May import: (.*?)\n(?=Never here: )", re.MULTILINE | re.DOTALL)
EVERYTHING = re.compile(r"every room|rooms below|the rest of the")


def _rule(module: Module) -> str | None:
    found = RULE.search(module.text) if module.file.stem == "__init__" else None
    return found and " ".join(found[1].split())


RULES = {module.name: rule for module in MODULES if (rule := _rule(module)) is not None and "." in module.name}


def _is_in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def _imports(room: str) -> Iterable[tuple[str, str]]:
    """What the modules of a room import from outside, except a package's version, each with the importer."""
    for name, targets in GRAPH.items():
        if _is_in(name, room):
            yield from ((name, target) for target in targets if "." in target and not _is_in(target, room))


def _names(room: str, target: str) -> set[str]:
    """The names under which a rule may list a module: each folder on its path, and the last part by itself."""
    package, *rest = target.split(".")
    if package != room.partition(".")[0]:
        return {package, *(".".join([package, *rest[:depth]]) for depth in range(1, len(rest) + 1))}
    return {".".join(rest[:depth]) for depth in range(1, len(rest) + 1)} | set(rest)


def test_every_room_has_a_rule() -> None:
    """A room is a folder directly inside a package; a package without rooms has its rule itself."""
    rooms = {".".join(m.name.split(".")[:2]) for m in MODULES if m.file.stem != "__init__" and m.name.count(".") > 1}
    assert rooms - RULES.keys() <= {"edge_relay.cli", "edge_bridge.dev"}, "a room without 'May import:'"


@pytest.mark.parametrize("room", RULES)
def test_a_room_imports_what_its_docstring_allows(room: str) -> None:
    rule = RULES[room]
    allowed = set(re.findall(r"`([\w.]+)`", rule))
    refused = set(re.findall(r"`([\w.]+)`", rule.partition(" but ")[2].partition(";")[0]))
    for importer, target in _imports(room):
        names = _names(room, target)
        is_own = target.partition(".")[0] == room.partition(".")[0]
        if EVERYTHING.search(rule) and is_own:
            assert not names & refused or names & (allowed - refused), f"{importer} imports {target}"
        else:
            assert names & allowed, f"{importer} imports {target}"


@pytest.mark.parametrize("room", RULES)
def test_a_docstring_allows_no_import_that_the_room_has_no_use_for(room: str) -> None:
    """A name in the list that no module imports is left over, or was never true."""
    used = {name for _, target in _imports(room) for name in _names(room, target)}
    rule = RULES[room].partition(" but ")[0]
    package = room.partition(".")[0]
    ours = {module.name.split(".")[1] for module in MODULES if module.name.startswith(f"{package}.")}
    named = {name for name in re.findall(r"`([\w.]+)`", rule) if name in PACKAGES or name.split(".")[0] in ours}
    assert named <= used
