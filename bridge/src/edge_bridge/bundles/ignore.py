"""Which files of a bundle are not published: those that `.edgeignore` names, and those that are never code."""

from pathlib import Path

from pathspec import GitIgnoreSpec

from edge_bridge.bundles.refusals import BundleRefused

IGNORE_FILE = ".edgeignore"
"""In the bundle's folder, with the syntax of `.gitignore`.

`.airflowignore` does not count: it names files that hold no DAGs, and a helper module is such a file.
"""
MAX_BYTES = 256 * 1024
_NEVER = frozenset({".git", "__pycache__"})


class IgnoreRules:
    """The rules of one bundle."""

    def __init__(self, lines: list[str]) -> None:
        self._spec = GitIgnoreSpec.from_lines(lines)

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Whether a file, or a folder with all that it holds, is not published.

        Args:
            path: Relative to the bundle's folder, with `/`.
            is_folder: Some rules are for folders only.
        """
        name = path.rpartition("/")[2]
        if name in _NEVER or (name.endswith(".pyc") and not is_folder):
            return True
        return self._spec.match_file(f"{path}/" if is_folder else path)


def read_rules(root: Path) -> IgnoreRules:
    """The rules in a bundle's folder.

    Raises:
        BundleRefused: The file can't be read, or a line is no pattern.
    """
    path = root / IGNORE_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return IgnoreRules([])
    except OSError as error:
        raise BundleRefused(f"{IGNORE_FILE} can't be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise BundleRefused(f"{IGNORE_FILE} is larger than {MAX_BYTES} bytes")
    try:
        return IgnoreRules(data.decode().splitlines())
    except ValueError as error:  # UnicodeDecodeError is one
        raise BundleRefused(f"{IGNORE_FILE} has a line that is no pattern of .gitignore: {error}") from error
