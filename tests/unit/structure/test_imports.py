"""Circles and importers."""

from structure.bounds import FOLDER_CIRCLES, MODULE_CIRCLES
from structure.imports import circles, folder_circles, import_circles, import_graph, single_importers
from unit.structure.conftest import Write


def test_imports_count_wherever_they_stand(write: Write) -> None:
    modules = write(
        {
            "a/src/p/__init__.py": "VERSION = 1\n",
            "a/src/p/a.py": "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B\n",
            "a/src/p/b.py": "def f():\n    import p.c\n",
            "a/src/p/c.py": "from p import a, VERSION\nfrom p.c import me\n",
            "a/src/p/__main__.py": "from p import a\n",
        }
    )
    graph = import_graph(modules)
    assert graph == {"p": set(), "p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p", "p.a"}}
    assert circles(graph) == [["p.a", "p.b", "p.c"]]
    assert import_circles(modules).figures == {MODULE_CIRCLES: 1, FOLDER_CIRCLES: 0}


def test_modules_in_a_line_are_no_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_two_circles_are_two() -> None:
    assert circles({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}) == [["a", "b"], ["c", "d"]]


def test_folders_can_be_in_a_circle_without_one_of_modules() -> None:
    graph = {"p.one.a": {"p.two.a"}, "p.two.b": {"p.one.b"}, "p.one.b": set(), "p.two.a": set()}
    assert circles(graph) == []
    assert folder_circles(graph) == [["p.one", "p.two"]]


def test_a_folder_and_a_module_next_to_it_can_be_in_a_circle() -> None:
    graph = {"p.sub.a": {"p.m"}, "p.m": {"p.sub.b"}, "p.sub.b": set()}
    assert folder_circles(graph) == [["p.m", "p.sub"]]


def test_folders_inside_of_folders_are_compared_with_their_neighbours() -> None:
    graph = {"p.x.one.a": {"p.x.two.a"}, "p.x.two.a": {"p.x.one.b"}, "p.x.one.b": set()}
    assert folder_circles(graph) == [["p.x.one", "p.x.two"]]


def test_the_init_of_a_folder_is_no_neighbour_of_its_modules() -> None:
    assert folder_circles({"p": {"p.sub.a"}, "p.sub.a": {"p"}, "p.sub": {"p.sub.a"}}) == []


def test_the_importers_of_all_packages_count(write: Write) -> None:
    modules = write(
        {
            "a/src/p/__init__.py": "",
            "a/src/p/a.py": "",
            "a/src/p/b.py": "from p import a\n",
            "a/src/p/c.py": "from p.a import x\nfrom p import b\n",
            "a/src/p/d.py": "",
            "a/src/p/__main__.py": "from p.d import main\n",
            "b/src/q/m.py": "import p.c\n",
            "tests/test_c.py": "import p.c\nimport p.a\n",
        }
    )
    counts, named = single_importers(modules).tables
    assert counts.rows == [("p", 4, 3, 0), ("q", 1, 0, 1)]
    assert named.rows == [("p", "p.b", "p.c"), ("p", "p.c", "q.m"), ("p", "p.d", "p.__main__")]
