"""Which paths a bundle may hold: those that mean the same file, inside the folder, on every file system."""

import unicodedata
from collections.abc import Iterable

MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
"""Of a file's or folder's name: what the usual file systems allow."""


def problem_of(path: str) -> str | None:
    """Why a path can't be in a bundle; None if it can.

    Paths are relative, with `/` between their segments. A backslash or a colon is allowed: they mean nothing here, and
    Airflow does not run on Windows.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not Unicode"
    if len(encoded) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if any(unicodedata.category(letter) == "Cc" for letter in path):
        return "its name holds control characters"
    for segment in path.split("/"):
        if segment in {"", ".", ".."}:
            return "it is not a plain relative path"
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"one of its names is longer than {MAX_SEGMENT_BYTES} bytes"
    return None


def collision_in(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that are one file somewhere, or a file that is also the folder of another; None if there are none.

    Some file systems ignore case and the way in which accents are encoded.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        folded = _folded(path)
        if (other := seen.get(folded, folders.get(folded))) is not None:
            return other, path
        seen[folded] = path
        if (clash := _add_folders(path, seen, folders)) is not None:
            return clash, path
    return None


def _add_folders(path: str, files: dict[str, str], folders: dict[str, str]) -> str | None:
    """Note the folders of a path; returns a path that one of them collides with."""
    folder = path.rpartition("/")[0]
    while folder:
        folded = _folded(folder)
        if folded in files:
            return files[folded]
        known = folders.setdefault(folded, folder)
        if known != folder:
            return known
        folder = folder.rpartition("/")[0]
    return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
