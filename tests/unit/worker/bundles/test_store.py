"""The versions on a worker's disk: written, checked again, shared, removed."""

import mmap
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


def _unlocked(tree: Path, change: Callable[[], object]) -> None:
    """As the user who owns the files; the folders have the modes of before afterwards."""
    modes = {path: path.stat().st_mode for path in [tree, *tree.rglob("*")] if path.is_dir()}
    for path in modes:
        path.chmod(0o755)
    change()
    for path, mode in modes.items():
        if path.is_dir() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o755:
            path.chmod(mode)


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
        lambda tree: (tree / "lib/__pycache__/deep").mkdir(),
        lambda tree: (tree / "lib.pyc").write_bytes(b""),
        lambda tree: (tree / "sitecustomize.py").write_bytes(b""),
        lambda tree: (tree / "shadow.pth").write_bytes(b""),
        lambda tree: (tree / "lib").chmod(0o777),
        lambda tree: os.utime(tree / "data.bin"),
        lambda tree: (tree / "data.bin").chmod(0o644),
        lambda tree: (tree.parent / "link").hardlink_to(tree / "data.bin"),
        lambda tree: _other_inode(tree / "data.bin"),
        lambda tree: tree.rename(tree.with_name("moved")),
        lambda tree: (tree.rename(tree.with_name("moved")), tree.symlink_to(tree.with_name("moved"))),
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
        "bytecode-to-link",
        "folder-in-bytecode",
        "bytecode-without-source",
        "sitecustomize",
        "pth",
        "mode-of-folder",
        "touched",
        "mode",
        "hard-link",
        "inode",
        "tree-moved",
        "tree-to-link",
    ],
)
def test_changed_tree_is_noticed_and_made_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Whatever a task has left behind, the next one runs what the digest names."""
    store = _store(tmp_path)
    bundle, tree = _built(store)
    before = {path: path.lstat().st_ino for path in tree.rglob("*")}
    _unlocked(tree, lambda: change(tree))
    assert store.tree(bundle.digest) is None
    assert store.tree(bundle.digest) is None, "until it was made again"
    _built(store)
    assert store.tree(bundle.digest) == tree
    assert _content(tree) == _FILES
    assert not {path for path in tree.rglob("*") if path.lstat().st_ino == before.get(path)}, "all files are new ones"


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


def test_what_a_mapped_file_is_changed_to_later_is_in_no_tree(tmp_path: Path) -> None:
    """A process that has mapped a file changes it without a new time: so a touched file is replaced."""
    store = _store(tmp_path)
    bundle, tree = _built(store)
    file = tree / "data.bin"
    file.chmod(0o644)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[0] = mapped[0]
        file.chmod(0o444)
        state, looks_right = file.stat(), file.read_bytes() == _FILES["data.bin"]
        assert store.tree(bundle.digest) is None
        _built(store)
        mapped[0] = ord("y")
        after = os.fstat(opened.fileno())
    assert looks_right
    assert (after.st_mtime_ns, after.st_size) == (state.st_mtime_ns, state.st_size), "otherwise this shows nothing"
    assert store.tree(bundle.digest) == tree
    assert _content(tree) == _FILES


def test_bytecode_that_a_task_left_is_removed_and_the_agents_own_is_kept(tmp_path: Path) -> None:
    """In folders that hold nothing but bytecode, a file too many is removed, and the version needs no new files."""
    store = _store(tmp_path)
    bundle, tree = _built(store)
    own, planted = tree / "dags/__pycache__/one.cpython-311.pyc", tree / "lib/__pycache__/__init__.cpython-311.pyc"
    store.checked.add_bytecode(bundle.digest, {str(own.relative_to(tree)).encode(): b"own"})
    store.checked.take_uncompiled(bundle.digest)
    _unlocked(tree, lambda: planted.write_bytes(b"planted"))
    _unlocked(tree, lambda: planted.with_name("link").symlink_to("/etc/passwd"))
    assert store.tree(bundle.digest) == tree
    assert list(planted.parent.iterdir()) == []
    assert own.read_bytes() == b"own"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (own, own.parent, planted.parent)] == [0o444, 0o555, 0o555]
    assert store.checked.uncompiled == set()

    times = own.stat()
    own.chmod(0o644)
    own.write_bytes(b"bad")
    os.utime(own, ns=(times.st_atime_ns, times.st_mtime_ns))
    own.chmod(0o444)
    assert store.tree(bundle.digest) == tree
    assert not own.exists()
    assert store.checked.uncompiled == {bundle.digest}, "it is made again"


def test_bytecode_of_a_version_that_was_changed_is_not_added(tmp_path: Path) -> None:
    store = _store(tmp_path)
    bundle, tree = _built(store)
    os.utime(tree / "data.bin")
    assert store.tree(bundle.digest) is None
    store.checked.add_bytecode(bundle.digest, {b"lib/__pycache__/x.pyc": b"1"})
    assert list((tree / "lib/__pycache__").iterdir()) == []


def test_no_bytecode_is_made_of_a_source_that_was_changed(tmp_path: Path) -> None:
    """A task that runs at this moment must not choose what is compiled."""
    store = _store(tmp_path)
    bundle, tree = _built(store)
    files = store.checked.take_uncompiled(bundle.digest)
    assert [file.path for file in files] == ["dags/one.py", "lib/__init__.py"]
    (tree / "dags/one.py").chmod(0o644)
    (tree / "dags/one.py").write_bytes(b"import bad\n")
    assert store.checked.sources(bundle.digest, files) == {"lib/__init__.py": b""}


def test_another_agent_reads_all_files_and_trusts_no_bytecode(tmp_path: Path) -> None:
    """Nothing on the disk says what was verified: a task can't change it, and a power cut can't make half a file count.

    A file that lost its content has its size and its times.
    """
    bundle, tree = _built(_store(tmp_path))
    planted, file = tree / "lib/__pycache__/x.pyc", tree / "data.bin"
    _unlocked(tree, lambda: planted.write_bytes(b"half"))
    (tree / "lib").chmod(0o755)
    assert _store(tmp_path).tree(bundle.digest) == tree
    assert not planted.exists()
    assert stat.S_IMODE((tree / "lib").stat().st_mode) == 0o555
    state = file.stat()
    file.chmod(0o644)
    file.write_bytes(bytes(100))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    file.chmod(0o444)
    assert _store(tmp_path).tree(bundle.digest) is None


@pytest.mark.parametrize(
    "damage", [lambda about: about.unlink(), lambda about: about.write_bytes(b"{")], ids=["removed", "damaged"]
)
def test_description_of_a_version_that_is_lost_is_written_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    bundle, tree = _built(_store(tmp_path))
    damage(tree.parent / "about.json")
    store = _store(tmp_path)
    assert store.tree(bundle.digest) == tree
    assert [version.size for version in store.versions()] == [bundle.manifest.size]


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
