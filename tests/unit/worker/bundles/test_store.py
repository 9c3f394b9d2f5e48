"""The versions on a worker's disk: written, checked again, shared, removed."""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edge_schemas.bundles.pieces import PIECE_BYTES
from edge_worker.bundles.building import PiecesMissing, local_pieces
from edge_worker.bundles.pruning import BundleLimits
from edge_worker.bundles.store import BundleStore
from edge_worker.bundles.unavailable import CodeUnavailable
from support.relay.bundles import MadeBundle, make_bundle

_LIMITS = BundleLimits(version_max_bytes=1 << 30, cache_max_bytes=1 << 30, keep_s=3600, reserve_bytes=0)
_FILES = {"dags/one.py": b"import lib\n", "lib/__init__.py": b"", "run.sh": b"#!/bin/sh\n", "data.bin": b"x" * 100}


def _store(path: Path, *in_use: str, limits: BundleLimits = _LIMITS) -> BundleStore:
    store = BundleStore(path / "bundles", limits, lambda: set(in_use))
    store.prepare()
    return store


def _arrived(store: BundleStore, bundle: MadeBundle, *pieces: str) -> None:
    """Pieces of a version have arrived, all unless given."""
    partial = store.partial(bundle.digest)
    partial.keep_manifest(bundle.frame, bundle.digest)
    for piece in pieces or bundle.frames:
        (partial.path / "pieces" / piece).write_bytes(bundle.frames[piece])


def _built(store: BundleStore, files: Mapping[str, bytes] = _FILES) -> tuple[MadeBundle, Path]:
    bundle = make_bundle(files, executable=["run.sh"])
    _arrived(store, bundle)
    return bundle, store.build(store.partial(bundle.digest), bundle.manifest, {}, "dags")


def _content(tree: Path) -> dict[str, bytes]:
    found = (path for path in tree.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {str(path.relative_to(tree)): path.read_bytes() for path in found}


def _to_fifo(tree: Path) -> None:
    (tree / "data.bin").unlink()
    os.mkfifo(tree / "data.bin")


def _other_inode(path: Path) -> None:
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").replace(path)


def test_version_is_complete_and_read_only(tmp_path: Path) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    assert tree == tmp_path / "bundles" / "versions" / bundle.digest / "tree"
    assert _content(tree) == _FILES
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in ("run.sh", "data.bin", "lib", "")}
    assert modes == {"run.sh": 0o555, "data.bin": 0o444, "lib": 0o555, "": 0o555}
    assert store.tree(bundle.digest) == tree
    assert list((tmp_path / "bundles" / "partial").iterdir()) == []


def test_python_can_keep_what_it_compiles_where_there_is_code(tmp_path: Path) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    (tree / "lib" / "__pycache__" / "__init__.cpython-313.pyc").write_bytes(b"compiled")
    assert store.tree(bundle.digest) == tree
    assert not (tree / "__pycache__").exists(), "there is no Python file in the bundle's own folder"


def test_version_that_brings_compiled_files_keeps_them_read_only(tmp_path: Path) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store, {"a.py": b"1", "__pycache__/a.pyc": b"2"})
    assert stat.S_IMODE((tree / "__pycache__").stat().st_mode) == 0o555
    assert store.tree(bundle.digest) == tree


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "lib" / "__init__.py").write_bytes(b"evil"),
        lambda tree: (tree / "data.bin").unlink(),
        lambda tree: (tree / "lib" / "more.py").write_bytes(b""),
        lambda tree: (tree / "lib" / "link").symlink_to("/etc/passwd"),
        lambda tree: (tree / "more").mkdir(),
        lambda tree: ((tree / "data.bin").unlink(), (tree / "data.bin").symlink_to("/etc/passwd")),
        _to_fifo,
        lambda tree: (tree / "lib").rename(tree.parent / "moved"),
        lambda tree: ((tree / "lib").rename(tree.parent / "moved"), (tree / "lib").symlink_to(tree.parent / "moved")),
        lambda tree: ((tree / "lib/__pycache__").rmdir(), (tree / "lib/__pycache__").symlink_to("/tmp")),
    ],
    ids=[
        "content",
        "removed",
        "added",
        "link",
        "folder",
        "file-to-link",
        "fifo",
        "moved",
        "folder-to-link",
        "bytecode",
    ],
)
def test_changed_tree_is_noticed_and_made_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    for folder in (tree, tree / "lib"):
        folder.chmod(0o755)
    for file in tree.rglob("*.*"):
        file.chmod(0o644)
    change(tree)
    assert store.tree(bundle.digest) is None
    _built(store)
    assert store.tree(bundle.digest) == tree
    assert _content(tree) == _FILES


def test_content_that_kept_its_size_and_time_is_noticed(tmp_path: Path) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    file = tree / "data.bin"
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(b"y" * 100)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.chmod(0o444)
    assert store.tree(bundle.digest) is None


@pytest.mark.parametrize("change", [os.utime, lambda path: path.chmod(0o644), _other_inode])
def test_touched_file_is_read_once_and_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    (tree / "lib").chmod(0o755)
    change(tree / "lib" / "__init__.py")
    inventory = tree.parent / "inventory.json"
    before = inventory.read_bytes()
    assert store.tree(bundle.digest) == tree
    assert stat.S_IMODE((tree / "lib" / "__init__.py").stat().st_mode) == 0o444
    assert stat.S_IMODE((tree / "lib").stat().st_mode) == 0o555
    after = inventory.read_bytes()
    assert after != before
    assert store.tree(bundle.digest) == tree
    assert inventory.read_bytes() == after


@pytest.mark.parametrize(
    "damage", [lambda inventory: inventory.unlink(), lambda inventory: inventory.write_bytes(b"{")]
)
def test_version_without_its_inventory_is_verified(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    damage(tree.parent / "inventory.json")
    assert store.tree(bundle.digest) == tree
    damage(tree.parent / "inventory.json")
    (tree / "data.bin").chmod(0o644)
    (tree / "data.bin").write_bytes(b"y" * 100)
    assert store.tree(bundle.digest) is None


def test_after_a_boot_all_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut has lost what was not on the disk: a file has its size and its times, and no content."""
    store = _store(tmp_path)
    bundle, tree = _built(store)
    compiled = tree / "lib" / "__pycache__" / "x.pyc"
    compiled.write_bytes(b"half")
    monkeypatch.setattr("edge_worker.bundles.inventory.this_boot", lambda: "the next boot")
    assert store.tree(bundle.digest) == tree
    assert not compiled.exists()
    monkeypatch.setattr("edge_worker.bundles.inventory.this_boot", lambda: "one more")
    with (tree / "data.bin").open("rb") as file:
        state = os.fstat(file.fileno())
    (tree / "data.bin").chmod(0o644)
    (tree / "data.bin").write_bytes(bytes(100))
    os.utime(tree / "data.bin", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert store.tree(bundle.digest) is None


def test_only_new_pieces_are_missing(tmp_path: Path) -> None:
    store = _store(tmp_path)
    large = os.urandom(PIECE_BYTES) + os.urandom(PIECE_BYTES) + b"end"
    _built(store, {"large.bin": large, "a.py": b"one"})
    changed = large[:PIECE_BYTES] + b"z" + large[PIECE_BYTES + 1 :]
    new = make_bundle({"moved/large.bin": changed, "b.py": b"one", "c.py": b"new"})
    local = local_pieces(store.folders(), new.manifest)
    missing = [piece for piece in new.manifest.pieces if piece not in local]
    assert len(missing) == 2
    _arrived(store, new, *missing)
    tree = store.build(store.partial(new.digest), new.manifest, local, "dags")
    assert _content(tree) == {"moved/large.bin": changed, "b.py": b"one", "c.py": b"new"}


def test_piece_of_a_changed_local_file_is_not_used(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _, tree = _built(store, {"a.py": b"one", "b.py": b"two"})
    new = make_bundle({"c.py": b"one"})
    local = local_pieces(store.folders(), new.manifest)
    (tree / "a.py").chmod(0o644)
    (tree / "a.py").write_bytes(b"bad")
    _arrived(store, make_bundle({}))
    partial = store.partial(new.digest)
    partial.keep_manifest(new.frame, new.digest)
    with pytest.raises(PiecesMissing) as refused:
        store.build(partial, new.manifest, local, "dags")
    assert refused.value.digests == set(new.frames)
    assert store.tree(new.digest) is None


def test_damaged_piece_is_removed_and_missing(tmp_path: Path) -> None:
    """A power cut has damaged a piece that had arrived."""
    store = _store(tmp_path)
    bundle = make_bundle(_FILES)
    _arrived(store, bundle)
    partial = store.partial(bundle.digest)
    piece = next(iter(bundle.frames))
    (partial.path / "pieces" / piece).write_bytes(bytes(len(bundle.frames[piece])))
    with pytest.raises(PiecesMissing) as refused:
        store.build(partial, bundle.manifest, {}, "dags")
    assert refused.value.digests == {piece}
    assert piece not in partial.complete()
    _arrived(store, bundle, piece)
    assert _content(store.build(partial, bundle.manifest, {}, "dags")) == _FILES


def test_what_stands_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """A task has put links where a version is written: what they lead to stays as it is."""
    store, elsewhere = _store(tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    bundle = make_bundle(_FILES)
    _arrived(store, bundle)
    partial = store.partial(bundle.digest)
    (partial.path / "version").symlink_to(elsewhere)
    (tmp_path / "bundles" / "versions" / bundle.digest).symlink_to(elsewhere)
    assert store.tree(bundle.digest) is None
    assert _content(store.build(partial, bundle.manifest, {}, "dags")) == _FILES
    assert list(elsewhere.iterdir()) == []


def test_least_recently_used_versions_are_removed_and_none_in_use(tmp_path: Path) -> None:
    store = _store(tmp_path)
    made = [_built(store, {"f": bytes([number]) * 1000}) for number in range(4)]
    for age, (_, tree) in enumerate(reversed(made)):
        os.utime(tree.parent, (0, tree.parent.stat().st_mtime - 10 * age))
    store.in_use = lambda: {made[0][0].digest}
    store.limits = replace(_LIMITS, cache_max_bytes=2000)
    store.prune()
    assert [tree.exists() for _, tree in made] == [True, False, False, True]
    store.limits = replace(_LIMITS, keep_s=0)
    store.prune()
    assert [tree.exists() for _, tree in made] == [True, False, False, False]
    assert list((tmp_path / "bundles" / "removed").iterdir()) == []


def test_room_is_made_before_a_version_is_fetched(tmp_path: Path) -> None:
    store = _store(tmp_path)
    old, tree = _built(store, {"f": b"x" * 5000})
    new = make_bundle({"g": b"y" * 1000})
    store.free = lambda _: 4000 if not tree.exists() else 1500
    store.check_room(new.manifest, 400)
    assert tree.exists()
    store.check_room(new.manifest, 1000)
    assert store.tree(old.digest) is None
    with pytest.raises(CodeUnavailable, match="too little room") as refused:
        store.check_room(make_bundle({"g": b"y" * 3500}).manifest, 1000)
    assert refused.value.releases
    assert refused.value.pauses
    store.limits = replace(_LIMITS, version_max_bytes=999)
    with pytest.raises(CodeUnavailable, match="bundle_max_bytes = 999") as refused:
        store.check_room(new.manifest, 0)
    assert not refused.value.releases


def test_removal_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _, tree = _built(store)
    tree.parent.rename(tmp_path / "bundles" / "removed" / "half")
    _store(tmp_path)
    assert list((tmp_path / "bundles" / "removed").iterdir()) == []


def test_pieces_of_a_version_that_no_job_wants_are_removed_after_a_day(tmp_path: Path) -> None:
    store = _store(tmp_path)
    wanted, left = make_bundle({"a": b"1"}), make_bundle({"a": b"2"})
    for bundle in (wanted, left):
        _arrived(store, bundle)
        os.utime(store.partial(bundle.digest).path, (0, 0))
    store.in_use = lambda: {wanted.digest}
    store.prune()
    assert [path.name for path in (tmp_path / "bundles" / "partial").iterdir()] == [wanted.digest]
