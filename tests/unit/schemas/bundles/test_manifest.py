"""A manifest names one tree, and nothing that could harm a worker passes for one."""

import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_schemas.bundles.manifest import (
    MAX_BUNDLE_BYTES,
    MAX_FILES,
    BundleFile,
    ManifestRefused,
    manifest_of,
    open_manifest,
    pack_manifest,
    parse_manifest,
    pieces_named_by,
)
from edge_schemas.bundles.pieces import PIECE_BYTES, PieceRefused, make_frame, open_piece, pack_piece, piece_digest

PIECE = piece_digest(b"x")


def file(path: str, size: int = 1, pieces: tuple[str, ...] = (PIECE,), *, executable: bool = False) -> BundleFile:
    return BundleFile(path, executable, size, pieces)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


@given(st.lists(names, min_size=1, max_size=20, unique_by=lambda name: f"{name.casefold()}"), st.randoms())
def test_the_order_of_the_files_changes_nothing(paths: list[str], random: Any) -> None:
    files = [file(f"{number}/{path}") for number, path in enumerate(paths)]
    first = manifest_of(files)
    random.shuffle(files)
    second = manifest_of(files)
    assert first.digest == second.digest
    assert open_manifest(pack_manifest(first), first.digest) == first


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/./b",
        "a/",
        ".",
        "a\0b",
        "a\nb",
        "\ud800",
        "n" * 256,
        "d/" * 600,
    ],
)
def test_paths_that_leave_the_folder_or_can_not_be_written_are_refused(path: str) -> None:
    with pytest.raises(ManifestRefused):
        manifest_of([file(path)])


@pytest.mark.parametrize(
    ("one", "other"),
    [("dag.py", "DAG.py"), ("a", "a/b"), ("A/x", "a/y"), ("é", "e\u0301"), ("a/b", "A"), ("straße", "STRASSE")],
)
def test_two_paths_that_are_one_file_somewhere_are_refused(one: str, other: str) -> None:
    for files in ([file(one), file(other)], [file(other), file(one)]):
        with pytest.raises(ManifestRefused, match="same file"):
            manifest_of(files)


@pytest.mark.parametrize(
    "bad",
    [
        file("a", 2, ()),
        file("a", 0),
        file("a", PIECE_BYTES + 1),
        file("a", -1, ()),
        file("a", 1, ("../x",)),
        file("a", 1, (PIECE.upper(),)),
        file("a", MAX_BUNDLE_BYTES + 1, (PIECE,) * (MAX_BUNDLE_BYTES // PIECE_BYTES + 1)),
    ],
)
def test_sizes_and_pieces_fit_together(bad: BundleFile) -> None:
    with pytest.raises(ManifestRefused):
        manifest_of([bad])


def test_one_piece_has_one_size() -> None:
    with pytest.raises(ManifestRefused, match="two sizes"):
        manifest_of([file("a", 1), file("b", 2)])


def test_too_many_files_are_refused() -> None:
    with pytest.raises(ManifestRefused, match=str(MAX_FILES)):
        manifest_of([file(str(number)) for number in range(MAX_FILES + 1)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_anything_else_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(ManifestRefused):
        parse_manifest(data, hashlib.sha256(data).hexdigest())


@settings(max_examples=40, deadline=None)
@given(st.lists(JSON, max_size=4))
def test_files_of_any_form_are_refused_with_a_reason(files: list[object]) -> None:
    data = json.dumps({"format": 1, "files": [files]}).encode()
    with pytest.raises(ManifestRefused):
        parse_manifest(data, hashlib.sha256(data).hexdigest())


def test_another_form_of_the_same_manifest_is_refused() -> None:
    manifest = manifest_of([file("a"), file("b")])
    data = manifest.canonical.replace(b",", b", ")
    with pytest.raises(ManifestRefused, match="canonical"):
        parse_manifest(data, hashlib.sha256(data).hexdigest())
    with pytest.raises(ManifestRefused, match="another digest"):
        parse_manifest(manifest.canonical + b" ", manifest.digest)


def test_the_pieces_are_named_by_nothing_but_the_manifest_with_this_digest() -> None:
    two = piece_digest(b"two")
    manifest = manifest_of([file("a"), file("b"), file("c", PIECE_BYTES + 1, (two, PIECE)), file("d", 0, ())])
    frame = pack_manifest(manifest)
    assert pieces_named_by(frame, manifest.digest) == set(manifest.pieces) == {PIECE, two}
    with pytest.raises(ManifestRefused, match="another digest"):
        pieces_named_by(frame, PIECE)
    for data, reason in ((b'{"format": 2}', "update it"), (b"[]", "no manifest"), (b'{"format": 1}', "no manifest")):
        with pytest.raises(ManifestRefused, match=reason):
            pieces_named_by(make_frame(data), hashlib.sha256(data).hexdigest())


def test_a_later_format_says_what_to_do() -> None:
    data = b'{"format":2,"files":[]}'
    with pytest.raises(ManifestRefused, match="update"):
        parse_manifest(data, hashlib.sha256(data).hexdigest())


def test_a_piece_is_opened_to_its_bytes_only() -> None:
    data = b"print()\n" * 1000
    frame, digest = pack_piece(data), piece_digest(data)
    assert open_piece(frame, digest, len(data)) == data
    bomb = pack_piece(bytes(PIECE_BYTES))
    for bad, size in [
        (frame[:-1], len(data)),
        (frame + b"\0", len(data)),
        (frame + frame, len(data)),
        (b"", len(data)),
        (pack_piece(data[:-1] + b"x"), len(data)),
        (frame, len(data) - 1),
        (bomb, len(data)),
    ]:
        with pytest.raises(PieceRefused):
            open_piece(bad, digest, size)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_changes_nothing(position: int, change: int) -> None:
    data = b"from airflow.sdk import dag\n" * 20
    frame = bytearray(pack_piece(data))
    frame[position % len(frame)] ^= change
    with contextlib.suppress(PieceRefused):
        assert open_piece(bytes(frame), piece_digest(data), len(data)) == data
