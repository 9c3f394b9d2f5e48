"""Public things and their docstrings."""

from structure.docstrings import docstring_table, public_things
from unit.structure.conftest import Write

TEXT = '''
def bare():
    def inner(): ...

def documented():
    """Has one."""

def _private(): ...

class Public:
    """Has one."""

    def __init__(self): ...

    @property
    def size(self): ...

    @size.setter
    def size(self, value): ...

    @overload
    def get(self): ...

class _Private:
    def method(self): ...
'''


def test_public_things(write: Write) -> None:
    (module,) = write({"a/src/p/m.py": TEXT})
    assert list(public_things(module)) == [
        ("p.m", 25, True),
        ("p.m.bare", 2, True),
        ("p.m.documented", 2, False),
        ("p.m.Public", 13, False),
        ("p.m.Public.size", 1, True),
    ]


def test_a_private_module_has_nothing_public(write: Write) -> None:
    modules = write({"a/src/p/_m.py": TEXT, "a/src/p/__main__.py": ""})
    assert [list(public_things(module)) for module in modules] == [[("p.__main__", 0, True)], []]


def test_the_longest_come_first(write: Write) -> None:
    counts, longest = docstring_table(write({"a/src/p/m.py": TEXT, "tests/t.py": TEXT})).tables
    assert counts.rows == [("source", 5, 3), ("compose", 0, 0), ("docs", 0, 0)]
    assert longest.rows == [("p.m", 25), ("p.m.bare", 2), ("p.m.Public.size", 1)]
