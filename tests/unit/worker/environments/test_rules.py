"""What a requirements file may contain, and what names its environment."""

from pathlib import Path

import pytest

from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.environments.rules import MAX_BYTES, constraints, environment_key, read_requirements
from edge_worker.environments.uv import LAST_SHOWN, MAX_LINE, MAX_SHOWN, Output


def _read(tmp_path: Path, content: bytes) -> bytes:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "needs.txt").write_bytes(content)
    return read_requirements(tmp_path, "sub/needs.txt")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# a comment",
        "requests",
        "requests == 2.31.0  # why",
        "requests[socks,security]>=2.8.1,<3,!=2.9.*",
        'dbt-core~=1.8 ; python_version >= "3.11" and sys_platform == "linux"',
        "zope.interface (>=5)",
        "a === 1!2.0-rc.1",
        "requests==2.31.0 \\\n    --hash=sha256:" + "0" * 64 + " \\\n    --hash=sha256:" + "1" * 64,
    ],
)
def test_names_versions_markers_and_hashes_are_allowed(tmp_path: Path, line: str) -> None:
    assert _read(tmp_path, line.encode()) == line.encode()


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "-rother.txt",
        "-c other.txt",
        "--requirement=other.txt",
        "-e .",
        "--index-url https://example.org",
        "requests --index-url https://example.org",
        "requests; python_version > '3' --index-url https://example.org",
        "requests==2 --no-index",
        "requests==2 --no-binary=requests",
        "requests==2 ; python_version > '3' \\\n-r other.txt",
        "requests ; platform_node == '${HOME}'",
        "./local",
        "/srv/local",
        "..",
        "sub/local",
        "local.whl",
        "local-1.0.tar.gz",
        "https://example.org/a.whl",
        "git+https://example.org/a",
        "a @ file:///srv/a",
        "a@https://example.org/a.whl",
        "a ; python_version > '3' @ https://example.org",
        "${NAME}",
        "good\n-r other.txt",
        "-\\\nr other.txt",
        "good \\\n-r other.txt",
    ],
)
def test_all_else_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(CodeUnavailable, match="a line that is not allowed"):
        _read(tmp_path, line.encode())


@pytest.mark.parametrize(("content", "reason"), [(b"#" * (MAX_BYTES + 1), "has more than"), (b"\xff", "is not UTF-8")])
def test_large_and_binary_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(CodeUnavailable, match=reason):
        _read(tmp_path, content)


@pytest.mark.parametrize("path", ["", "none", "folder", "link", "../outside", "/etc/passwd", "a\0b"])
def test_paths_that_name_no_file_of_the_version_are_refused(tmp_path: Path, path: str) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tmp_path / "outside").touch()
    (tree / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(CodeUnavailable, match="no readable requirements file"):
        read_requirements(tree, path)


def test_another_file_interpreter_or_package_is_another_environment() -> None:
    keys = {
        environment_key(content, Path(python), installed)
        for content in (b"a", b"b")
        for python in ("/a", "/b")
        for installed in (["x-1.dist-info"], ["x-2.dist-info"], [])
    }
    assert len(keys) == 12


def test_constraints_are_what_the_runtime_has() -> None:
    assert constraints(["a_b-1.0+local.dist-info", "not.dist-info"]) == "a_b==1.0+local\n"


def test_output_is_bounded_and_without_credentials() -> None:
    said: list[str] = []
    output = Output(said.append)
    output.line("error at https://me:secret@example.org/simple and https://token@example.org")
    output.line("x" * 10_000)
    for number in range(1000):
        output.line(str(number))
    output.end()
    assert said[0] == "uv: error at https://***@example.org/simple and https://***@example.org"
    assert len(said[1]) <= MAX_LINE + 4
    assert len(said) == MAX_SHOWN + LAST_SHOWN + 1
    assert said[-1] == "uv: 999"
