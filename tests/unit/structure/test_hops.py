"""The call path: what a call leads to, and what counts as a change of file."""

import pytest

from structure.bounds import HOPS
from structure.hops import NoEntry, hops, listing, path
from unit.structure.conftest import Write

OTHER = """
class Other:
    def work(self): ...

def helper(): ...
"""


def opened(write: Write, main: str, **others: str) -> list[str]:
    """The functions on the path from `Main.go`, without the entry."""
    files = {"m": main, "other": OTHER, **others}
    modules = write({f"a/src/p/{name}.py": text for name, text in files.items()})
    return [":".join(step.key).removeprefix("p.") for step in path(modules, "Main.go")[1:]]


@pytest.mark.parametrize(
    "main",
    [
        # Attributes, by the annotation of the class or by what the constructor is given.
        "class Main:\n    other: Other\n    def go(self): self.other.work()\n",
        "class Main:\n    other: 'Other | None'\n    def go(self): self.other.work()\n",
        "class Main:\n    def __init__(self, other: Other): self.other = other\n    def go(self): self.other.work()\n",
        "class Main:\n    def __init__(self): self._a, self.other = 1, Other()\n    def go(self): self.other.work()\n",
        "class Main:\n    others: dict[str, Other]\n    def go(self): self.others.get('one').work()\n",
        "class Main:\n    @property\n    def other(self) -> Other: ...\n    def go(self): self.other.work()\n",
        # Local variables.
        "class Main:\n    def go(self, other: Other): other.work()\n",
        "class Main:\n    def go(self):\n        other = Other()\n        other.work()\n",
        "class Main:\n    def go(self, others: list[Other]):\n        for other in others: other.work()\n",
        "class Main:\n    def go(self, others: list[Other]): [other.work() for other in sorted(others)]\n",
        "class Main:\n    def go(self):\n        with closing(Other()) as other: other.work()\n",
        "class Main:\n    async def go(self, other: Awaitable[Other]): (await other).work()\n",
        "class Main:\n    def go(self):\n        if other := replace(Other(), a=1): other.work()\n",
        "type_ = Other\nclass Main:\n    def go(self, other: type_): other.work()\n",
        "class Main:\n    def go(self, x):\n        match x:\n            case Other() as other: other.work()\n",
        "class Main:\n    def go(self, x: Other):\n        match x:\n            case other: other.work()\n",
        "class B:\n    o: Other\nclass Main:\n    def go(s, x):\n        match x:\n            case B(o=a): a.work()",
        "class Main:\n    def go(self, rows: list[Other]): [[one.work() for one in row] for row in rows]\n",
        # Callbacks, tables of functions, lambdas and inner functions.
        "class Main:\n    def go(self, other: Other): call_later(1, other.work)\n",
        "class Main:\n    def go(self, other: Other): spawn(lambda: other.work())\n",
        "class Main:\n    def go(self, other: Other):\n        def inner(): other.work()\n        spawn(inner)\n",
        "TABLE = {1: Other.work}\nclass Main:\n    def go(self): TABLE[1](self)\n",
        "class Main:\n    def go(self, other: Other): spawn(lambda other=other: other.work())\n",
        # Classes and bases.
        "class Main(Other):\n    def go(self): self.work()\n",
        "class Main(Other):\n    def work(self): ...\n    def go(self): super().work()\n",
        "class Main:\n    def go(self): Other.work(self)\n",
        # At the top of the module.
        "OTHER = Other()\nclass Main:\n    def go(self): OTHER.work()\n",
    ],
)
def test_a_call_is_followed(write: Write, main: str) -> None:
    assert opened(write, f"from p.other import Other\n{main}") == ["other:Other.work"]


@pytest.mark.parametrize(
    "imports",
    ["from p import other", "import p.other as other", "from p.again import other"],
)
def test_functions_of_an_imported_module_are_followed(write: Write, imports: str) -> None:
    main = f"{imports}\nclass Main:\n    def go(self): other.helper()\n"
    assert opened(write, main, again="from p import other\n") == ["other:helper"]


def test_what_a_call_returns_is_followed(write: Write) -> None:
    main = """
from p.other import Other
def make() -> Other: ...
class Main:
    def go(self): make().work()
"""
    assert opened(write, main) == ["m:make", "other:Other.work"]


def test_a_loop_over_a_value_uses_what_its_iter_returns(write: Write) -> None:
    main = """
from p.other import Other
class Table:
    def __iter__(self) -> Iterator[Other]: ...
class Main:
    table: Table
    def go(self):
        for other in self.table: other.work()
"""
    assert opened(write, main) == ["other:Other.work"]


def test_a_protocol_stands_for_the_classes_that_have_its_methods(write: Write) -> None:
    main = """
class Works(Protocol):
    def work(self): ...
class Main:
    def go(self, part: Works): part.work()
"""
    more = "class More:\n    def work(self): ...\n    def rest(self): ...\nclass Less:\n    def rest(self): ...\n"
    assert opened(write, main, more=more) == ["more:More.work", "other:Other.work"]


def test_a_protocol_without_such_a_class_stands_for_itself(write: Write) -> None:
    main = "class P(Protocol):\n    def run(self): ...\nclass Main:\n    def go(self, part: P): part.run()\n"
    assert opened(write, main) == ["m:P.run"]


@pytest.mark.parametrize(
    "body",
    [
        "return Other()",
        "return self.size",
        "x: Other = None",
        "raise ValueError",
        "return unknown.work()",
        "return len(self)",
    ],
)
def test_constructors_properties_and_magic_methods_are_not_followed(write: Write, body: str) -> None:
    main = f"""
from p.built import Other
class Main:
    @property
    def size(self): return Other()
    def __len__(self): return 1
    def go(self):
        {body}
"""
    assert opened(write, main, built="class Other:\n    def __init__(self): ...\n") == []


def test_each_function_is_opened_once_and_first_calls_from_another_file_count(write: Write) -> None:
    modules = write(
        {
            "a/src/p/m.py": """
from p.log import info
from p.other import deep, first
class Main:
    def go(self):
        first()
        self.own()
        first()
        deep()
        info()
    def own(self):
        deep()
        self.go()
""",
            "a/src/p/other.py": "from p.third import far\ndef first(): deep()\ndef deep(): far()\n",
            "a/src/p/third.py": "def far(): ...\n",
            "a/src/p/log.py": "def info(): ...\n",
        }
    )
    assert listing(path(modules, "Main.go")) == (
        "p.m:Main.go\n  > p.other:first\n    p.other:deep\n      > p.third:far\n  p.m:Main.own\n"
    )
    measure = hops(modules, "p.m:Main.go")
    assert measure.figures == {HOPS: 2}
    assert measure.tables[0].rows == [("p.m:Main.go", 2, 3, 5)]
    assert measure.tables[1].rows == [("p.other", 1), ("p.third", 1)]


def test_the_entry_names_one_function(write: Write) -> None:
    main = "class Main:\n    def go(self): ...\n"
    modules = write({"a/src/p/m.py": main, "b/src/q/m.py": main})
    with pytest.raises(NoEntry, match=r"p\.m:Main\.go, q\.m:Main\.go"):
        path(modules, "Main.go")
    assert [step.key for step in path(modules, "q.m:Main.go")] == [("q.m", "Main.go")]
    assert hops(modules, "Main.stop").figures == {HOPS: None}
