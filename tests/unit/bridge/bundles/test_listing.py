"""Which files of a folder are published, and why a folder can't be."""

import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.listing import Limits, list_files
from edge_bridge.bundles.refusals import BundleRefused

LIMITS = Limits()
NOBODY = 65534


def make(root: Path, files: Mapping[str, str]) -> Path:
    """A folder with these files."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def paths(root: Path) -> set[str]:
    """What is published of a folder."""
    return {file.path for file in list_files(root, LIMITS)}


def test_what_is_never_code_is_left_out(tmp_path: Path) -> None:
    files = (
        "a.py",
        ".git/config",
        "sub/.git",
        "sub/__pycache__/a.cpython-311.pyc",
        "old.pyc",
        "sub/b.py",
        ".airflowignore",
    )
    assert paths(make(tmp_path, dict.fromkeys(files, ""))) == {"a.py", "sub/b.py", ".airflowignore"}


def test_the_ignore_file_has_the_syntax_of_gitignore(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            ".edgeignore": "# data\n*.csv\n!keep.csv\n/top/\nbuild/\ndocs/**/*.md\n!.git\n",
            **dict.fromkeys(("a.csv", "keep.csv", "sub/b.csv", "top/x", "sub/top/x", "sub/build/x", "build"), ""),
            **dict.fromkeys(("docs/a/b.md", "docs/c.py", ".git/config"), ""),
        },
    )
    assert paths(tmp_path) == {".edgeignore", "keep.csv", "sub/top/x", "build", "docs/c.py"}


def test_an_airflowignore_removes_nothing(tmp_path: Path) -> None:
    """It names files without DAGs: the helpers that tasks import."""
    assert "helpers/tools.py" in paths(make(tmp_path, {".airflowignore": "helpers/\n", "helpers/tools.py": ""}))


@pytest.mark.parametrize("content", [b"a\n!\n", b"\xff\xfe", b"x" * 300_000])
def test_an_ignore_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".edgeignore").write_bytes(content)
    with pytest.raises(BundleRefused, match=r"\.edgeignore"):
        paths(tmp_path)


def test_links_inside_the_bundle_are_published_as_what_they_point_to(tmp_path: Path) -> None:
    make(tmp_path, {"real/a.py": "a", "b.py": "b"})
    (tmp_path / "link.py").symlink_to("b.py")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real" / "up.py").symlink_to(tmp_path / "b.py")
    assert paths(tmp_path) == {"real/a.py", "real/up.py", "b.py", "link.py", "folder/a.py", "folder/up.py"}


def test_a_bundle_may_itself_be_a_link(tmp_path: Path) -> None:
    """As git-sync makes one."""
    make(tmp_path / "v1", {"a.py": ""})
    (tmp_path / "repo").symlink_to("v1")
    assert paths(tmp_path / "repo") == {"a.py"}


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_link("/etc/passwd"), "sub/bad is a link that leads out of the bundle"),
        (_link("../../outside"), "sub/bad is a link that leads out of the bundle"),
        (_link("nothing"), "sub/bad is a link that leads nowhere"),
        (_link("bad"), "sub/bad is a link that leads nowhere"),
        (_link(".."), "sub/bad is a link to a folder that holds it"),
        (_link("."), "sub/bad is a link to a folder that holds it"),
        (os.mkfifo, "sub/bad is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_published_is_refused_by_name_unless_it_is_ignored(
    tmp_path: Path, spoil: Callable[[Path], None], text: str
) -> None:
    (tmp_path / "outside").mkdir()
    bundle = make(tmp_path / "bundle", {"sub/a.py": ""})
    spoil(bundle / "sub" / "bad")
    with pytest.raises(BundleRefused, match=rf"^{text}\. Remove it, or name it in \.edgeignore$"):
        paths(bundle)
    (bundle / ".edgeignore").write_text("bad\n")
    assert paths(bundle) == {".edgeignore", "sub/a.py"}


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        with pytest.raises(BundleRefused, match="socket is neither"):
            paths(tmp_path)


def test_many_problems_are_named_up_to_a_few(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"link{number}").symlink_to("/etc")
    with pytest.raises(BundleRefused, match=r"link0 is .*link4 is .*; and 3 more\. Remove them"):
        paths(tmp_path)


def test_links_that_multiply_end_at_the_limit(tmp_path: Path) -> None:
    """Twenty folders, each with two links to the next one, are a million paths."""
    for number in range(20):
        (tmp_path / f"d{number}").mkdir()
        for name in "ab":
            (tmp_path / f"d{number}" / name).symlink_to(f"../d{number + 1}")
    (tmp_path / "d20").mkdir()
    with pytest.raises(BundleRefused, match="max_files = 10,000"):
        paths(tmp_path)


def test_a_bundle_that_is_too_large_names_its_largest_files(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "x", "big.csv": "x" * 600, "sub/bigger.bin": "x" * 700})
    text = r"1,301 bytes, more than max_bytes = 1,000\. The largest are sub/bigger\.bin \(700 bytes\), big\.csv \(600"
    with pytest.raises(BundleRefused, match=text):
        list_files(tmp_path, Limits(max_bytes=1000))
    with pytest.raises(BundleRefused, match=r"max_files = 3\..*bundle_max_files"):
        list_files(tmp_path, Limits(max_files=3))
    assert len(list_files(tmp_path, Limits(max_bytes=1301, max_files=4))) == 3


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_files": 0}, {"max_bytes": 2 << 30}, {"max_files": 20_001}])
def test_limits_beyond_those_of_a_manifest_are_refused(limits: Mapping[str, int]) -> None:
    with pytest.raises(ValueError, match="a bundle may have"):
        Limits(**limits)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="missing"):
        paths(tmp_path / "missing")


def test_unreadable_files_and_folders_are_named() -> None:
    """Seen by a user who may not read them, which root may."""
    with tempfile.TemporaryDirectory() as made:
        bundle = make(Path(made), {"a.py": "", "secret.py": "", "closed/b.py": ""})
        bundle.chmod(0o755)
        (bundle / "secret.py").chmod(0)
        (bundle / "closed").chmod(0)
        for expected, fix in (("folder closed/ can't be read", "closed"), ("secret.py can't be read", "secret.py")):
            assert _refusal_for_nobody(bundle).startswith(f"{expected}: Permission denied")
            (bundle / fix).chmod(0o755)
        assert _refusal_for_nobody(bundle) == ""


def _refusal_for_nobody(bundle: Path) -> str:
    """Why another user can't publish a folder."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            TreeHasher(LIMITS).manifest(bundle)
        except BundleRefused as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text
