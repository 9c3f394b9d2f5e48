"""What is in an environment: made read-only, and hashed."""

import hashlib
import os
import stat
from pathlib import Path

from edge_worker.bundles.files.inventory import everything_in


def content_hash(root: Path) -> str:
    """A hash of all that a folder contains: names, contents of files, targets of links, and what may be executed.

    Raises:
        OSError: Something can't be read.
    """
    found = hashlib.sha256()
    for path, entry in everything_in(root):
        where = os.fsencode(root) + b"/" + path
        if stat.S_ISREG(entry.st_mode):
            with Path(os.fsdecode(where)).open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
        else:
            content = os.readlink(where) if stat.S_ISLNK(entry.st_mode) else b""  # noqa: PTH115 - bytes
        for part in (path, stat.filemode(entry.st_mode).encode(), content):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def seal(root: Path) -> None:
    """Make a folder with all that it contains read-only.

    Raises:
        OSError: A mode can't be changed.
    """
    for path, entry in everything_in(root):
        if not stat.S_ISLNK(entry.st_mode):
            Path(root, os.fsdecode(path)).chmod(stat.S_IMODE(entry.st_mode) & ~0o222)
