"""What a version of a bundle costs to publish and to send, in different forms: the figures of docs/adr/0040.

    PYTHONPATH=tests .venv/bin/python -m bench.bundles.forms

The bundle has 2,000 modules of installed packages and three large files. Then a line is added to one module, and, as a
second change, to the middle of the largest file.
"""

import hashlib
import io
import random
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.listing import Limits
from edge_bridge.bundles.snapshots import Snapshots
from edge_schemas.bundles.manifest import BundleFile, manifest_of, pack_manifest
from edge_schemas.bundles.pieces import LEVEL, PIECE_BYTES, pack_piece, piece_digest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MODULES = 2_000
MODULE_BYTES = 64 * 1024
"""Longer ones are data."""
GROUP_BYTES = 512 * 1024
Files = Mapping[str, bytes]
Frames = Mapping[str, bytes]


class Cost(NamedTuple):
    """Of one form.

    Attributes:
        cold: Bytes that a worker without any version receives.
        deltas: Bytes that a worker with the first version receives after each change.
        publish_s: CPU seconds of the first publication.
        unpack_s: CPU seconds to decompress all of it.
    """

    cold: int
    deltas: tuple[int, ...]
    publish_s: float
    unpack_s: float


def bundle() -> dict[str, bytes]:
    """The first version."""
    root = Path(sysconfig.get_path("purelib"))
    modules = sorted(path for path in root.rglob("*.py") if 0 < path.stat().st_size < MODULE_BYTES)
    chosen = random.Random(1).sample(modules, MODULES)  # nothing secret
    files = {str(path.relative_to(root)): path.read_bytes() for path in chosen}
    noise = random.Random(2)
    rows = (f"{number},{noise.random():.6f},{noise.choice(['north', 'south', 'east'])}\n" for number in range(170_000))
    files["data/points.csv"] = "".join(rows).encode()
    files["data/model.bin"] = noise.randbytes(3 << 20)
    files["data/weights.bin"] = noise.randbytes(1 << 20)
    return files


def changes(files: Files) -> list[dict[str, bytes]]:
    """The versions after it."""
    module = min(name for name in files if name.endswith(".py"))
    csv = files["data/points.csv"]
    middle = csv.index(b"\n", len(csv) // 2) + 1
    row = b"-1,0.5,west\n"
    return [
        {**files, module: files[module] + b"\nANSWER = 42\n"},
        {**files, "data/points.csv": csv[:middle] + row + csv[middle:]},
    ]


def as_tar(files: Files) -> bytes:
    """A reproducible archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def archive(files: Files) -> Frames:
    """One archive for all."""
    data = zstd.compress(as_tar(files), level=LEVEL)
    return {hashlib.sha256(data).hexdigest(): data}


def pieces(files: Files) -> Frames:
    """A frame for each 512 KiB of each file, and the manifest: what is built."""
    parts = {
        name: [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] for name, data in files.items()
    }
    manifest = manifest_of(
        BundleFile(name, executable=False, size=len(data), pieces=tuple(map(piece_digest, parts[name])))
        for name, data in files.items()
    )
    frames = {piece_digest(part): pack_piece(part) for of_file in parts.values() for part in of_file}
    return {**frames, manifest.digest: pack_manifest(manifest)}


def groups(files: Files, *, by_content: bool = False) -> Frames:
    """Files in the order of their paths, together in frames of some 512 KiB. The list of files is not counted.

    Args:
        files: All.
        by_content: A group ends behind a file whose name's hash says so, not where it is full.
    """
    frames: dict[str, bytes] = {}
    group = bytearray()
    for name, data in [*sorted(files.items()), ("", b"")]:
        mean_files = max(1, GROUP_BYTES * len(files) // sum(map(len, files.values())))
        ends = hashlib.sha256(name.encode()).digest()[0] * mean_files < 256 if by_content else len(group) >= GROUP_BYTES
        if group and (ends or not name or len(group) > 2 * GROUP_BYTES):
            for at in range(0, len(group), PIECE_BYTES):
                part = bytes(group[at : at + PIECE_BYTES])
                frames[piece_digest(part)] = pack_piece(part)
            group.clear()
        group += data
    return frames


def measure(form: Callable[[Files], Frames], versions: Iterable[Files]) -> Cost:
    """The cost of a form without state: a worker receives the frames that it does not have."""
    first, *later = versions
    started = time.process_time()
    frames = form(first)
    publish_s = time.process_time() - started
    started = time.process_time()
    for frame in frames.values():
        zstd.decompress(frame)
    unpack_s = time.process_time() - started
    deltas = (sum(len(data) for name, data in form(files).items() if name not in frames) for files in later)
    return Cost(sum(map(len, frames.values())), tuple(deltas), publish_s, unpack_s)


def measure_patches(versions: Iterable[Files]) -> Cost:
    """An archive, then `zstd --patch-from` the archive that the worker has, byte for byte."""
    first, *later = map(as_tar, versions)
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    cold = zstd.compress(first, level=LEVEL)
    prefix = zstd.ZstdDict(first, is_raw=True)
    started = time.process_time()
    deltas = tuple(len(zstd.compress(data, options=options, zstd_dict=prefix.as_prefix)) for data in later)
    return Cost(len(cold), deltas, (time.process_time() - started) / len(deltas), 0.0)


def main() -> None:
    """Print a row for each form."""
    files = bundle()
    versions = [files, *changes(files)]
    print(f"{len(files)} files, {sum(map(len, files.values())):,} bytes, tar {len(as_tar(files)):,}")
    print(f"{'form':34}{'cold':>12}{'a line more':>14}{'a row more':>13}{'publish, s':>12}{'unpack, s':>11}")
    forms: dict[str, Callable[[Files], Frames]] = {
        "archive, tar.zst": archive,
        "pieces of files and manifest": pieces,
        "groups of 512 KiB": groups,
        "groups that end by a hash": lambda some: groups(some, by_content=True),
    }
    for name, form in forms.items():
        show(name, measure(form, versions))
    show("archive and zstd --patch-from", measure_patches(versions))
    show_refresh(files)
    print(f"the manifest alone: {len([*pieces(files).values()][-1]):,} bytes")


def show_refresh(files: Files) -> None:
    """What a dag-processor does at each refresh, before it knows whether there is something to publish."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "bundle")
        for name, data in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        time.sleep(2.1)  # files that were changed a moment ago are read again
        hasher, copies = TreeHasher(Limits()), Snapshots(Path(made, "copies"), TreeHasher(Limits()))
        steps: dict[str, Callable[[], object]] = {
            "hash all files": lambda: hasher.manifest(root),
            "look for changes, none": lambda: hasher.manifest(root),
            "hash and copy all files": lambda: copies.take(root),
        }
        for name, step in steps.items():
            started, cpu = time.monotonic(), time.process_time()
            step()
            print(f"{name:34}{time.process_time() - cpu:8.3f} s of CPU{time.monotonic() - started:8.3f} s")


def show(name: str, cost: Cost) -> None:
    """A row."""
    small, large = cost.deltas
    print(f"{name:34}{cost.cold:12,}{small:14,}{large:13,}{cost.publish_s:12.2f}{cost.unpack_s:11.2f}")


if __name__ == "__main__":
    main()
