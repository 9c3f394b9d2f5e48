"""Files with bytecode in the folder of a version: which sources need one, and how they are added."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_worker.bundles.files.folders import create_file, open_file, opened_below, opened_folder, parts_of
from edge_worker.bundles.files.inventory import SETTLE_NS, Inventory, state_of
from edge_worker.bundles.files.tree import BYTECODE, FILE_MODE, writable

MAX_SOURCE_BYTES = 1 << 20
"""Larger sources are data, mostly: the tasks that import one compile it."""


def sources_in(manifest: Manifest, known: Inventory) -> list[BundleFile]:
    """The files that are compiled: not those next to a folder for bytecode that the version itself brings."""
    return [
        file
        for file in manifest.files
        if file.path.endswith(".py")
        and file.size <= MAX_SOURCE_BYTES
        and b"/".join([*parts_of(file.path)[:-1], BYTECODE]) in known.bytecode_folders
    ]


def with_bytecode(root: Path, known: Inventory, files: Mapping[bytes, bytes]) -> Inventory:
    """Write files with bytecode, by their paths, and note those that can be read again.

    Raises:
        OSError: The disk is full, or a folder is not there.
    """
    with opened_folder(root) as descriptor:
        for path, content in files.items():
            folder, _, name = path.rpartition(b"/")
            with writable(descriptor, tuple(folder.split(b"/"))) as inner:
                _replace_file(inner, name, content)
        before = {path: _state_below(root, path) for path in files}
        time.sleep(SETTLE_NS / 1e9)
        noted = {
            path: state
            for path, state in before.items()
            if _content_below(descriptor, path) == files[path] and _state_below(root, path) == state
        }
    return replace(known, bytecode={**known.bytecode, **noted})


def _replace_file(folder: int, name: bytes, content: bytes) -> None:
    """Atomically: a task may be reading the file."""
    draft = name + b".new"
    with os.fdopen(create_file(folder, draft), "wb") as opened:
        opened.write(content)
        os.fchmod(opened.fileno(), FILE_MODE)
    os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)


def _state_below(root: Path, path: bytes) -> bytes:
    return state_of(os.lstat(os.fsencode(root) + b"/" + path))


def _content_below(root: int, path: bytes) -> bytes:
    *folder, name = path.split(b"/")
    with opened_below(root, folder) as inner, os.fdopen(open_file(inner, name), "rb") as opened:
        return opened.read()
