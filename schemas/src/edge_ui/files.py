"""The files of the dashboard, read once at the start: a path that is not among them is never opened."""

import functools
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

CONTENT_TYPES: Mapping[str, str] = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
"""By the end of the name; what ends otherwise is not served."""
PAGE = "index.html"
_ASSETS_HERE = b"assets/HASH/"
_PRELOADS_HERE = b"<!-- modules -->"
_END_OF_HEAD = b"</head>"


@dataclass(frozen=True, slots=True)
class UiFile:
    """A file of the dashboard.

    Attributes:
        packed: The same with gzip.
        etag: Of the content, with the quotes.
    """

    content: bytes
    packed: bytes
    content_type: str
    etag: str


class UiFiles:
    """All files of the dashboard in memory, some 200 KiB.

    Assets are served below a hash of all of them, so a browser may keep them for ever, and after an upgrade loads all
    of the new ones and none of the old. The modules import each other by relative paths, which keep the hash.

    Args:
        head: Tags that are added at the end of the page's head.
    """

    def __init__(self, head: bytes = b"") -> None:
        assets = dict(sorted(_read(files("edge_ui") / "static")))
        page = assets.pop(PAGE)
        digest = hashlib.sha256()
        for name, content in assets.items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self.digest = digest.hexdigest()[:16]
        """Names this set of assets in URLs."""
        self.page = _file(PAGE, _with_preloads(page, assets, self.digest).replace(_END_OF_HEAD, head + _END_OF_HEAD))
        """The page itself; it names the assets with their digest."""
        self._assets = {name: _file(name, content) for name, content in assets.items()}

    def asset(self, path: str) -> UiFile | None:
        """The asset with this path below the digest; None if there is none."""
        return self._assets.get(path)

    def names(self) -> tuple[str, ...]:
        """The paths of all assets."""
        return tuple(self._assets)


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in CONTENT_TYPES:
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _with_preloads(page: bytes, assets: Mapping[str, bytes], digest: str) -> bytes:
    """The browser loads all modules at once, instead of each when it finds the import."""
    modules = "".join(
        f'<link rel="modulepreload" href="assets/HASH/{name}">\n' for name in assets if _suffix(name) == ".js"
    )
    return page.replace(_PRELOADS_HERE, modules.encode()).replace(_ASSETS_HERE, f"assets/{digest}/".encode())


@functools.lru_cache(maxsize=256)  # tests build many relays in one process
def _file(name: str, content: bytes) -> UiFile:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return UiFile(content, gzip.compress(content, mtime=0), CONTENT_TYPES[_suffix(name)], etag)
