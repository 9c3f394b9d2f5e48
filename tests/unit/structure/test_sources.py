"""Which files are read, and under which names."""

from pathlib import Path

from structure.sources import packages, read
from unit.structure.conftest import Write


def test_files_have_their_import_names(write: Write) -> None:
    modules = write(
        {
            "one/src/pkg/__init__.py": "",
            "one/src/pkg/sub/__init__.py": "",
            "one/src/pkg/sub/mod.py": "a = 1\nb = 2\n",
            "two/src/other/__main__.py": "",
            "compose/local/up.py": "",
            "tests/unit/test_it.py": "",
            "docs/generate.py": "",
            "tests/.cache/no.py": "",
            "setup.py": "",
        }
    )
    assert [(module.part, module.name) for module in modules] == [
        ("source", "pkg"),
        ("source", "pkg.sub"),
        ("source", "pkg.sub.mod"),
        ("source", "other.__main__"),
        ("compose", "local.up"),
        ("tests", "unit.test_it"),
        ("docs", "generate"),
    ]
    assert list(packages(modules)) == ["pkg", "other", "compose", "tests", "docs"]
    assert [module.lines for module in modules if module.name == "pkg.sub.mod"] == [2]
    assert [module.name for module in modules if module.is_special] == ["pkg", "pkg.sub", "other.__main__"]


def test_a_tree_below_a_hidden_folder_is_read(tmp_path: Path) -> None:
    file = tmp_path / ".worktrees/one/a/src/p/m.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert [module.name for module in read(tmp_path / ".worktrees/one")] == ["p.m"]
