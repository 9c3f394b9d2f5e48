"""Which requirements files are allowed: names and versions only. The owner decides where packages come from."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_worker.bundles.files.folders import open_below, open_file, opened_folder, parts_of
from edge_worker.bundles.unavailable import CodeUnavailable

MAX_BYTES = 256 * 1024
_VERSION = r"(?:[=<>~!]=|===|[<>])\s*[A-Za-z0-9][A-Za-z0-9.*+!_-]*"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*"
_ALLOWED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"  # the name
    r"(?:\s*\[[A-Za-z0-9._, -]*\])?"  # extras
    rf"(?:\s*(?:{_VERSIONS}|\({_VERSIONS}\)))?"
    r"(?:\s*;(?:(?!\s-)[^@#$\\])*)?"  # marker
    r"(?:\s+--hash=[a-z0-9]+:[0-9a-f]+)*"
)
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar|tgz|tar\.[a-z0-9]+)$", re.IGNORECASE)
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_DISTRIBUTION = re.compile(r"([A-Za-z0-9._]+)-([A-Za-z0-9.!+_]+)\.dist-info")


def read_requirements(tree: Path, path: str) -> bytes:
    """The requirements file of a version of a bundle, checked.

    Raises:
        CodeUnavailable: There is none, or it contains something that is not allowed.
    """
    *parent, name = parts_of(path) or (b"",)
    try:
        if b".." in (*parent, name):
            raise FileNotFoundError(path)
        with opened_folder(tree) as root:
            folder = open_below(root, parent)
            try:
                file = open_file(folder, name)
            finally:
                os.close(folder)
        with os.fdopen(file, "rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise CodeUnavailable(f"its version of the bundle has no readable requirements file {path!r}") from None
    if len(content) > MAX_BYTES:
        raise CodeUnavailable(f"the requirements file {path!r} has more than {MAX_BYTES} bytes")
    for line in _logical_lines(content, path):
        if not _ALLOWED.fullmatch(line) or _ARCHIVE.search(line):
            raise CodeUnavailable(
                f"the requirements file {path!r} has a line that is not allowed: only names with versions, markers and "
                f"hashes are, no options, other files, paths and addresses: {line[:80]!r}"
            )
    return content


def environment_key(requirements: bytes, python: Path, distributions: Iterable[str]) -> str:
    """Names the environment of a requirements file in a runtime; another one when either changes."""
    seed = hashlib.sha256(requirements)
    for part in (str(python), str(python.resolve()), *distributions):
        seed.update(f"\0{part}".encode())
    return seed.hexdigest()[:32]


def constraints(distributions: Sequence[str]) -> str:
    """In pip's format: no package gets another version than the runtime has."""
    matches = (_DISTRIBUTION.fullmatch(name) for name in distributions)
    return "".join(f"{match[1]}=={match[2]}\n" for match in matches if match is not None)


def _logical_lines(content: bytes, path: str) -> list[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise CodeUnavailable(f"the requirements file {path!r} is not UTF-8") from None
    joined = re.sub(r"\\\r?\n", " ", _COMMENT.sub("", text))
    return [line.strip() for line in joined.splitlines() if line.strip()]
