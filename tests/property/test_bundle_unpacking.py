"""Whatever arrives as a bundle: what runs is what the digest names, and nothing is written outside of its folder."""

import functools
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_schemas.bundles.manifest import ManifestRefused
from edge_schemas.bundles.pieces import PIECE_BYTES, make_frame, pack_piece, piece_digest
from edge_worker.bundles.building import PiecesMissing, local_pieces
from edge_worker.bundles.partial import Partial, PiecesReader
from edge_worker.bundles.pruning import BundleLimits
from edge_worker.bundles.store import BundleStore
from edge_worker.bundles.unavailable import Damaged
from support.relay.bundles import MadeBundle, make_bundle

pytestmark = pytest.mark.timeout(1200)

_LIMITS = BundleLimits(version_max_bytes=1 << 30, cache_max_bytes=1 << 30, keep_s=3600, reserve_bytes=0)
_FEW, _MANY = settings(max_examples=40), settings(max_examples=5000)
_TRIES = 40
_ODD = "surrogatepass"

Answer = Callable[[list[str], int], bytes]

_names = st.text("ab.-_ é\\:", min_size=1, max_size=4) | st.sampled_from(["__pycache__", "x.py", "\U0001f40d"])
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_contents = st.binary(max_size=60) | st.integers(1, 3).map(lambda count: bytes(count * PIECE_BYTES // 2 + count))
_trees = st.dictionaries(_paths, _contents, max_size=12)
_odd_names = _names | st.sampled_from(["..", ".", "", "/", "~", "a/../..", "\0", "\n", "\ud800", "A", "É", "e\u0301"])
_odd_paths = st.lists(_odd_names, min_size=1, max_size=4).map("/".join) | st.sampled_from(
    ["/etc/passwd", "../outside", "a/../../outside", "../../tree", "/", "", "a//b", "a/", "a" * 300, "a/" * 600 + "b"]
)


@contextmanager
def _store() -> Iterator[tuple[BundleStore, Callable[[], set[str]]]]:
    """A store, and what is next to it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "outside").write_bytes(b"stays")
        store = BundleStore(root / "state" / "bundles", _LIMITS, set)
        store.prepare()
        try:
            yield store, lambda: {path.name for path in root.iterdir()} | {p.name for p in (root / "state").iterdir()}
            assert (root / "outside").read_bytes() == b"stays"
        finally:
            # Folders that can't be written stop the removal, unless this is root.
            for parent, folders, _ in os.walk(root):
                for name in folders:
                    Path(parent, name).chmod(0o700)


def _bundle(tree: Mapping[str, bytes]) -> MadeBundle | None:
    """The version with these files; None if its paths collide."""
    try:
        return make_bundle(tree, executable=[path for path in tree if len(path) % 2])
    except ManifestRefused:
        return None


def _content(tree: Path) -> dict[str, bytes]:
    found = {}
    for parent, _, files in os.walk(os.fsencode(tree)):
        for name in files:
            path = os.path.join(parent, name)  # noqa: PTH118 - bytes
            with open(path, "rb") as file:  # noqa: PTH123
                found[os.path.relpath(path, os.fsencode(tree)).decode()] = file.read()
    return found


def _fetch(
    store: BundleStore, bundle: MadeBundle, chance: random.Random, spoil: Callable[[bytes], bytes]
) -> Path | None:
    """Fetch as an agent does that is killed between any two chunks; the relay's answers are spoiled at times."""
    partial = store.partial(bundle.digest)
    local = local_pieces(store.folders(), bundle.manifest)
    for number in range(_TRIES):
        manifest = partial.manifest(bundle.digest)
        spoils = spoil if number < _TRIES // 2 else _unchanged
        try:
            if manifest is None:
                manifest = partial.keep_manifest(spoils(bundle.frame), bundle.digest)
            here = {*partial.complete(), *local}
            if not (missing := {piece: size for piece, size in manifest.pieces.items() if piece not in here}):
                return store.build(partial, manifest, local, "dags")
            _fetch_some(partial, missing, functools.partial(_answer, bundle, spoils), chance)
        except Damaged:
            continue
        except PiecesMissing as error:
            local = {piece: place for piece, place in local.items() if piece not in error.digests}
    return None


def _fetch_some(partial: Partial, missing: Mapping[str, int], answer: Answer, chance: random.Random) -> None:
    """One request for the pieces that are missing."""
    begun = partial.begun()
    if begun is not None and begun.digest not in missing:
        partial.drop(begun.digest)
        begun = None
    order = sorted(missing, key=lambda piece: begun is None or piece != begun.digest)
    reader = PiecesReader(partial, {piece: missing[piece] for piece in order}, begun)
    body = answer(order, 0 if begun is None else begun.offset)
    end = len(body) if chance.random() < 0.5 else chance.randrange(len(body) + 1)
    try:
        at = 0
        while at < end:
            step = chance.choice([1, 3, 7, 1000, 65536, end])
            reader.feed(body[at : min(end, at + step)])
            at += step
    finally:
        reader.close()


def _answer(bundle: MadeBundle, spoil: Callable[[bytes], bytes], pieces: list[str], offset: int) -> bytes:
    return spoil(bundle.answer(*pieces, offset=offset))


def _unchanged(body: bytes) -> bytes:
    return body


def _spoiler(chance: random.Random) -> Callable[[bytes], bytes]:
    def spoil(body: bytes) -> bytes:
        at = chance.randrange(len(body) + 1)
        match chance.randrange(8):
            case 0 if at < len(body):
                return body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]
            case 1:
                return body[:at]
            case 2:
                return body[:at] + chance.randbytes(chance.randrange(1, 20)) + body[at:]
            case 3:
                return body[at:] + body[:at]
            case 4:
                return chance.randbytes(len(body))
            case _:
                return body

    return spoil


def _check_fetch(old: Mapping[str, bytes], new: Mapping[str, bytes], seed: int) -> None:
    chance = random.Random(seed)
    first, second = _bundle(old), _bundle({**old, **new})
    with _store() as (store, around):
        before = around()
        for bundle, files in ((first, old), (second, {**old, **new})):
            if bundle is None:
                continue
            tree = _fetch(store, bundle, chance, _spoiler(chance))
            if tree is not None:
                assert _content(tree) == files
            assert store.tree(bundle.digest) == tree
        assert around() == before


def _canonical(paths: list[str], size: int) -> bytes:
    """A list of files in the form that is accepted if the paths are."""
    pieces = [piece_digest(bytes(min(PIECE_BYTES, size - at))) for at in range(0, size, PIECE_BYTES)]
    files = [[path, size % 2, size, pieces] for path in sorted(paths, key=lambda path: path.encode(errors=_ODD))]
    return json.dumps({"format": 1, "files": files}, ensure_ascii=False, separators=(",", ":")).encode(errors=_ODD)


def _check_manifest(data: bytes) -> None:
    """The digest names these bytes, whatever they are: who decides about digests is the attacker."""
    digest = hashlib.sha256(data).hexdigest()
    with _store() as (store, around):
        before = around()
        partial = store.partial(digest)
        try:
            manifest = partial.keep_manifest(make_frame(data), digest)
        except Damaged:
            assert store.tree(digest) is None
            return
        for file in manifest.files:
            assert not {"", ".", ".."}.intersection(file.path.split("/"))
        for piece, size in manifest.pieces.items():
            (partial.path / "pieces" / piece).write_bytes(pack_piece(bytes(size)))
        tree = store.build(partial, manifest, {}, "dags")
        assert _content(tree) == {file.path: bytes(file.size) for file in manifest.files}
        assert store.tree(digest) == tree
        assert around() == before


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | _odd_paths
_inner = _leaves | st.lists(_leaves, max_size=4) | st.dictionaries(st.sampled_from(["format", "x"]), _leaves)
_json = _inner | st.lists(_inner | st.lists(_inner, min_size=3, max_size=5), max_size=4)


@given(old=_trees, new=_trees, seed=st.integers(0, 2**32))
@_FEW
def test_what_arrives_is_what_the_digest_names(old: dict[str, bytes], new: dict[str, bytes], seed: int) -> None:
    _check_fetch(old, new, seed)


@pytest.mark.soak
@given(old=_trees, new=_trees, seed=st.integers(0, 2**32))
@_MANY
def test_what_arrives_is_what_the_digest_names_for_long(
    old: dict[str, bytes], new: dict[str, bytes], seed: int
) -> None:
    _check_fetch(old, new, seed)


@given(paths=st.lists(_odd_paths, min_size=1, max_size=5), size=st.integers(0, 2))
@_FEW
def test_odd_paths_are_refused_or_stay_inside(paths: list[str], size: int) -> None:
    _check_manifest(_canonical(paths, size))


@pytest.mark.soak
@given(paths=st.lists(_odd_paths, min_size=1, max_size=5), size=st.integers(0, 2))
@_MANY
def test_odd_paths_are_refused_or_stay_inside_for_long(paths: list[str], size: int) -> None:
    _check_manifest(_canonical(paths, size))


@given(files=_json, version=st.just(1) | _json)
@_FEW
def test_odd_manifests_are_refused(files: object, version: object) -> None:
    _check_manifest(json.dumps({"format": version, "files": files}).encode())


@pytest.mark.soak
@given(files=_json, version=st.just(1) | _json)
@_MANY
def test_odd_manifests_are_refused_for_long(files: object, version: object) -> None:
    _check_manifest(json.dumps({"format": version, "files": files}).encode())


@pytest.mark.parametrize(
    "paths",
    [
        ["../up"],
        ["/abs"],
        ["a/../../up"],
        ["a", "a/b"],
        ["A", "a"],
        ["\u00e9", "e\u0301"],
        ["a/b", "A/c"],
        ["a//b"],
        ["a\0b"],
        ["\ud800"],
        ["x" * 256],
        ["a/" * 600 + "b"],
        ["twice", "twice"],
    ],
)
def test_paths_that_are_always_refused(paths: list[str], tmp_path: Path) -> None:
    data = _canonical(paths, 1)
    partial = Partial(tmp_path / "p")
    partial.prepare()
    with pytest.raises(Damaged, match="the manifest is refused"):
        partial.keep_manifest(make_frame(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("data", [bytes(1 << 30), b"[" * 7_000_000, b'{"format":1,"files":[' + b"[]," * 2_000_000])
def test_bombs_are_refused(data: bytes, tmp_path: Path) -> None:
    partial = Partial(tmp_path / "p")
    partial.prepare()
    with pytest.raises(Damaged):
        partial.keep_manifest(make_frame(data, level=1), hashlib.sha256(data).hexdigest())
