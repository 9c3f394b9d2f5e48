"""Modules per folder, and lines."""

import pytest

from structure.bounds import CLASSES, FOLDERS
from structure.sizes import class_sizes, folders, function_sizes, functions, lines, module_sizes, percentile
from unit.structure.conftest import Write


def test_init_and_main_do_not_count_in_a_folder(write: Write) -> None:
    twelve = {f"a/src/p/m{number}.py": "" for number in range(12)}
    special = {"a/src/p/__init__.py": "", "a/src/p/__main__.py": "", "a/src/p/sub/m.py": ""}
    assert folders(write(twelve | special)).figures == {FOLDERS: 0}

    measure = folders(write({"a/src/p/m12.py": ""}))
    assert measure.figures == {FOLDERS: 1}
    assert measure.tables[0].rows[0] == ("source", 2, 13, 1)
    assert measure.tables[1].rows == [("source", "a/src/p", 13)]


def test_folders_of_all_parts_count(write: Write) -> None:
    files = {f"{part}/sub/m{number}.py": "" for part in ("compose", "tests") for number in range(13)}
    assert folders(write(files)).figures == {FOLDERS: 2}


def test_lines_of_modules(write: Write) -> None:
    modules = write({"a/src/p/__init__.py": "\n" * 300, "a/src/p/m.py": "\n" * 250, "a/src/p/n.py": "\n" * 251})
    sizes, large = module_sizes(modules).tables
    assert sizes.rows[0] == ("source together", 2, 250, 251, 251, 1)
    assert sizes.rows[1] == ("p", 2, 250, 251, 251, 1)
    assert [row[1:] for row in large.rows] == [("a/src/p/__init__.py", 300), ("a/src/p/n.py", 251)]


def test_lines_of_functions(write: Write) -> None:
    text = """
@decorator
def outer():
    def inner():
        pass
    return inner

class C:
    async def method(
        self,
    ):
        pass
"""
    modules = write({"a/src/p/m.py": text, "tests/test_m.py": "def test():\n" + "    x\n" * 60})
    assert {name: lines(node) for name, node in functions(modules[0])} == {
        "outer": 4,
        "outer.inner": 2,
        "C.method": 4,
    }
    sizes, large = function_sizes(modules).tables
    assert sizes.rows[0] == ("source together", 3, 4, 4, 4, 0)
    assert large.rows == [("tests", "tests/test_m.py:test", 61)]


def test_only_classes_of_source_have_a_bound(write: Write) -> None:
    long = "class {}:\n" + "    x = 1\n" * 150
    modules = write(
        {
            "a/src/p/m.py": long.format("Long") + "class Short:\n" + "    x = 1\n" * 149,
            "tests/support/m.py": long.format("Fake"),
        }
    )
    measure = class_sizes(modules)
    assert measure.figures == {CLASSES: 1}
    assert measure.tables[0].rows == [
        ("p", "a/src/p/m.py:1", "Long", 151),
        ("tests", "tests/support/m.py:1", "Fake", 151),
    ]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([7], 0.9, 7), ([3, 1, 2], 0.5, 2), ([4, 3, 2, 1], 0.5, 2), (range(1, 11), 0.9, 9)],
)
def test_percentile(values: list[int], share: float, expected: int) -> None:
    assert percentile(values, share) == expected
