"""The page on tasks and threads shows every asyncio task and thread that has a name in our code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explanation" / "tasks-and-threads.md"
SOURCES = [
    path for folder in ("schemas", "relay", "bridge", "edge_worker") for path in (ROOT / folder).rglob("src/**/*.py")
]
NAMED_BY = {"create_task": None, "Thread": None, "Portal": 0, "_spawn": 1}
"""What starts a task or a thread, with the position of its name if that is no keyword."""


def names(path: Path) -> Iterator[str]:
    """The names that a module gives to tasks and threads; `*` stands for what is known only when it runs."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _called(node) in NAMED_BY:
            position = NAMED_BY[_called(node)]
            given = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            yield from map(_text, given if position is None else node.args[position : position + 1])
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "loops":
            assert isinstance(node.value, ast.Dict)
            yield from (_text(key) for key in node.value.keys if key is not None)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _text(name: ast.expr) -> str:
    if isinstance(name, ast.Constant):
        return str(name.value)
    if isinstance(name, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in name.values)
    return "*"


FOUND = sorted({name for path in SOURCES for name in names(path)} - {"*"})


def test_the_search_finds_tasks_of_each_process() -> None:
    assert {"shared-state", "keeper-watch", "reconciler", "poll-loop", "edge-relay-executor"} <= set(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_every_task_and_thread_is_on_the_page(name: str) -> None:
    assert re.search(rf"(?<![\w-]){_pattern(name)}(?![\w-])", PAGE.read_text()), name


def test_every_task_in_the_picture_exists() -> None:
    drawn = set(re.findall(r"─ ([a-z][\w-]*)  ", PAGE.read_text()))
    assert len(drawn) > 40
    assert {name for name in drawn if not any(re.fullmatch(_pattern(found), name) for found in FOUND)} == set()


def _pattern(name: str) -> str:
    return re.escape(name).replace(r"\*", "[A-Z]+")
