"""From a folder to a manifest, and back: the same tree has the same digest, and nothing is read twice."""

import os
from pathlib import Path

import pytest

from edge_bridge.bundles import hashing
from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.listing import Limits, ListedFile
from edge_bridge.bundles.refusals import BundleRefused, TreeChanged
from edge_bridge.bundles.snapshots import Snapshots
from edge_bridge.bundles.tree import PieceSource, make_folder, write_tree
from edge_schemas.bundles.manifest import Manifest, parse_manifest
from edge_schemas.bundles.pieces import PIECE_BYTES

LONG_AGO = 1_600_000_000


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle."""
    root = tmp_path / "bundle"
    (root / "sub").mkdir(parents=True)
    (root / "a.py").write_text("a")
    (root / "empty.py").touch()
    (root / "sub" / "large.bin").write_bytes(os.urandom(PIECE_BYTES + 7))
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "Größe ☃.py").write_text("odd")
    return root


def test_a_manifest_depends_on_paths_contents_and_the_executable_bit_only(bundle: Path, tmp_path: Path) -> None:
    manifest = TreeHasher(Limits()).manifest(bundle)
    assert {file.path: (file.executable, file.size, len(file.pieces)) for file in manifest.files} == {
        "a.py": (False, 1, 1),
        "empty.py": (False, 0, 0),
        "sub/large.bin": (False, PIECE_BYTES + 7, 2),
        "run.sh": (True, 10, 1),
        "Größe ☃.py": (False, 3, 1),
    }
    copy = tmp_path / "elsewhere" / "copy"
    make_folder(copy, lambda partial: write_tree(partial, manifest, PieceSource(bundle, manifest).read))
    for file in copy.rglob("*"):
        os.utime(file, (LONG_AGO, LONG_AGO))
    again = TreeHasher(Limits()).manifest(copy)
    assert (again.canonical, again.digest) == (manifest.canonical, manifest.digest)
    assert parse_manifest(manifest.canonical, manifest.digest) == manifest
    (copy / "a.py").chmod(0o700)
    assert TreeHasher(Limits()).manifest(copy).digest != manifest.digest


def test_unchanged_files_are_not_read_again(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = hashing._hash

    def hash_file(file: ListedFile) -> object:
        read.append(file.path)
        return real(file)

    monkeypatch.setattr(hashing, "_hash", hash_file)
    monkeypatch.setattr(hashing, "RECENT_NS", 0)
    hasher = TreeHasher(Limits())
    before = hasher.manifest(bundle)
    assert len(read) == 5
    read.clear()
    assert hasher.manifest(bundle) == before
    assert read == []
    (bundle / "a.py").write_text("b")
    os.utime(bundle / "a.py", (LONG_AGO, LONG_AGO))
    (bundle / "empty.py").unlink()
    assert hasher.manifest(bundle).digest != before.digest
    assert read == ["a.py"]
    assert len(hasher._known) == 4


def test_a_file_that_was_changed_a_moment_ago_is_read_again(bundle: Path) -> None:
    """A change in the same tick of the file system's clock leaves no trace in its times."""
    hasher = TreeHasher(Limits())
    before = hasher.manifest(bundle)
    state = (bundle / "a.py").stat()
    (bundle / "a.py").write_text("b")
    os.utime(bundle / "a.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert hasher.manifest(bundle).digest != before.digest


def test_a_file_that_changes_while_it_is_read_is_read_again(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version holds the last state of both files, not the old one of the first and the new one of the second."""
    real, changes = hashing._hash, iter(range(2))

    def change_others(file: ListedFile) -> object:
        known = real(file)
        if file.path == "sub/large.bin" and next(changes, None) is not None:
            (bundle / "a.py").write_text(f"changed while another file was read {os.urandom(4).hex()}")
        return known

    monkeypatch.setattr(hashing, "_hash", change_others)
    manifest = TreeHasher(Limits()).manifest(bundle)
    monkeypatch.undo()
    assert next(changes, None) is None
    assert manifest == TreeHasher(Limits()).manifest(bundle)


class Restless(TreeHasher):
    """A file changes after each look at the bundle."""

    looks = 0

    def manifest(self, root: Path) -> Manifest:
        """What the bundle was a moment ago."""
        found = super().manifest(root)
        self.looks += 1
        (root / "a.py").write_text(f"look {self.looks}")
        return found


def test_a_tree_that_never_rests_is_refused_for_now(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few attempts: the dag-processor has other bundles to look after."""
    hasher = Restless(Limits())
    with pytest.raises(TreeChanged, match="were changed while they were copied"):
        Snapshots(bundle.parent / "copies", hasher).take(bundle)
    assert hasher.looks == hashing.ATTEMPTS
    real = hashing._hash

    def change_it(file: ListedFile) -> object:
        known = real(file)
        (bundle / "a.py").write_text(os.urandom(4).hex())
        return known

    monkeypatch.setattr(hashing, "_hash", change_it)
    with pytest.raises(TreeChanged, match="were changed while they were read"):
        TreeHasher(Limits()).manifest(bundle)
    assert list((bundle.parent / "copies").iterdir()) == []


def test_names_that_no_worker_can_write_are_refused(bundle: Path) -> None:
    bad = Path(os.fsdecode(os.fsencode(bundle) + b"/\xff.py"))
    bad.touch()
    with pytest.raises(BundleRefused, match="not Unicode"):
        TreeHasher(Limits()).manifest(bundle)
    bad.unlink()
    (bundle / "A.py").touch()
    with pytest.raises(BundleRefused, match="are the same file on some file systems: rename one"):
        TreeHasher(Limits()).manifest(bundle)


def test_a_copy_is_read_only_appears_complete_and_old_copies_go(bundle: Path, tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "published", TreeHasher(Limits()))
    assert snapshots.shown() is None
    digests = []
    for number in range(4):
        (bundle / "a.py").write_text(f"version {number}")
        manifest = snapshots.take(bundle)
        snapshots.show(manifest.digest)
        digests.append(manifest.digest)
        assert snapshots.shown() == manifest.digest
        assert (snapshots.path / "a.py").read_text() == f"version {number}"
        assert (snapshots.path / "a.py").stat().st_mode & 0o777 == 0o444
        assert (snapshots.path / "run.sh").stat().st_mode & 0o777 == 0o555
    left = {path.name for path in (tmp_path / "published").iterdir()}
    assert left == {"current", *digests[-2:]}
    assert Snapshots(tmp_path / "published", TreeHasher(Limits())).shown() == digests[-1]


def test_what_a_killed_process_has_left_is_removed_later(bundle: Path, tmp_path: Path) -> None:
    """Not what another process may be writing now."""
    old, new = (tmp_path / "versions" / f".partial-{name}" for name in ("old", "new"))
    for partial in (old, new):
        partial.mkdir(parents=True)
        (partial / "a.py").touch(0o444)
    os.utime(old, (LONG_AGO, LONG_AGO))
    manifest = TreeHasher(Limits()).manifest(bundle)
    made = tmp_path / "versions" / manifest.digest
    make_folder(made, lambda partial: write_tree(partial, manifest, PieceSource(bundle, manifest).read))
    assert set(made.parent.iterdir()) == {made, new}


def test_a_piece_of_a_changed_file_is_not_given_out(bundle: Path) -> None:
    manifest = TreeHasher(Limits()).manifest(bundle)
    source = PieceSource(bundle, manifest)
    piece = next(file.pieces[0] for file in manifest.files if file.path == "a.py")
    (bundle / "a.py").write_text("!")
    with pytest.raises(TreeChanged, match=r"a\.py was changed"):
        source.read(piece)
    (bundle / "a.py").unlink()
    with pytest.raises(TreeChanged, match=r"a\.py can't be read any more"):
        source.read(piece)
