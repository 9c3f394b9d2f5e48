"""`Any` and `type: ignore`."""

import pytest

from structure.bounds import ANY, IGNORES
from structure.typing_uses import any_table, any_uses, ignore_table, ignores
from unit.structure.conftest import Write


def test_any_is_counted_by_name(write: Write) -> None:
    text = '''
"""Any text about Any."""
import typing
from typing import Any  # Any

Json = dict[str, Any]

def f(one: Any, two: "list[Any]", *rest: dict[Any, Any]) -> Any:
    local: typing.Any = cast(Any, "Any")
    return Anything
'''
    (module,) = write({"a/src/p/m.py": text})
    assert any_uses(module) == (6, 2)


def test_any_counts_in_source_only(write: Write) -> None:
    text = "def f(x: Any) -> Any: ...\n"
    measure = any_table(
        write({"a/src/p/m.py": text, "a/src/p/n.py": "x = 1\n", "b/src/q/m.py": text, "tests/t.py": text})
    )
    assert measure.figures == {ANY: 4}
    assert measure.tables[0].rows == [("p", 2, 0, 2), ("q", 2, 0, 2)]
    assert measure.tables[1].rows == [("a/src/p/m.py", 2), ("b/src/q/m.py", 2)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("f()  # type: ignore[arg-type]\n", [(1, False)]),
        ("f()  # type: ignore\n", [(1, False)]),
        ("f()  # type: ignore[arg-type]  # the stub is wrong\n", [(1, True)]),
        ("f()  # type: ignore[arg-type] - the stub is wrong\n", [(1, True)]),
        ("f()  # type: ignore[arg-type]  # noqa: F401\n", [(1, False)]),
        ("f()  # type: ignore[arg-type]  # noqa: F401, S101 - the stub is wrong\n", [(1, True)]),
        ("# The stub is wrong.\nf()  # type: ignore[arg-type]\n", [(2, True)]),
        ("# The stub is wrong.\n\nf()  # type: ignore[arg-type]\n", [(3, False)]),
        ("g()  # about g\nf()  # type: ignore[arg-type]\n", [(2, False)]),
        ("# noqa: F401\nf()  # type: ignore[arg-type]\n", [(2, False)]),
        ("text = '# type: ignore'\n", []),
    ],
)
def test_reasons(write: Write, text: str, found: list[tuple[int, bool]]) -> None:
    (module,) = write({"a/src/p/m.py": text})
    assert ignores(module) == found


def test_ignores_count_in_all_parts(write: Write) -> None:
    bare = "f()  # type: ignore[misc]\n"
    measure = ignore_table(write({"a/src/p/m.py": bare, "tests/t.py": f"# Why.\n{bare}{bare}"}))
    assert measure.figures == {IGNORES: 2}
    assert measure.tables[1].rows == [("source", "a/src/p/m.py:1"), ("tests", "tests/t.py:3")]
