"""Files below a folder without following a link: each name is opened relative to its folder.

Names are bytes: the encoding of a worker's locale must not decide which file a path means.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def parts_of(path: str) -> tuple[bytes, ...]:
    """The names in a path of a manifest."""
    return tuple(path.encode().split(b"/")) if path else ()


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """The descriptor of a folder.

    Raises:
        OSError: There is none, or its last name is a link.
    """
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_below(root: int, parts: Sequence[bytes], *, create: bool = False) -> int:
    """A new descriptor of a folder below another one.

    Raises:
        OSError: There is none, or one of the names is no folder.
    """
    current = os.dup(root)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=current)
            inner = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = inner
    except BaseException:
        os.close(current)
        raise
    return current


@contextmanager
def opened_below(root: int, parts: Sequence[bytes], *, create: bool = False) -> Iterator[int]:
    """As `open_below`; closed when the context ends."""
    descriptor = open_below(root, parts, create=create)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def create_file(folder: int, name: bytes) -> int:
    """A descriptor of a new file, to be written.

    Raises:
        OSError: There is something with this name.
    """
    return os.open(name, _CREATE, 0o600, dir_fd=folder)


def open_file(folder: int, name: bytes) -> int:
    """A descriptor of a regular file, to be read.

    Raises:
        OSError: There is none.
    """
    descriptor = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(os.fsdecode(name))
    return descriptor


def remove_tree(folder: Path) -> None:
    """Remove a folder, also one whose folders can't be written.

    Raises:
        OSError: Something of it is left.
    """
    try:
        for _, folders, _, descriptor in os.fwalk(folder):
            os.fchmod(descriptor, 0o700)
            for name in folders:
                with contextlib.suppress(OSError):  # a link is removed as it is
                    inner = os.open(name, _FOLDER, dir_fd=descriptor)
                    os.fchmod(inner, 0o700)
                    os.close(inner)
    except FileNotFoundError:
        return
    shutil.rmtree(folder)
