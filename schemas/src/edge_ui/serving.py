"""What each address below `/ui/` answers, for any HTTP framework."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from edge_ui.files import UiFile, UiFiles

FOREVER: Final = "public, max-age=31536000, immutable"
CHECK_EACH_TIME: Final = "no-cache"
_ASSET = re.compile(r"assets/(?P<digest>[^/]+)/(?P<path>.+)")
_VIEW = re.compile(r"[a-z-]+(/[^/]+)?")


@dataclass(frozen=True, slots=True)
class UiAnswer:
    """An answer. A header `Content-Type` is among the headers if there is a body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)


class Ui:
    """The dashboard's files, as a browser is given them.

    Args:
        files: The files.
        headers: Of every answer, see `policy.headers`.
    """

    def __init__(self, files: UiFiles, headers: Mapping[str, str]) -> None:
        self._files = files
        self._headers = headers

    def answer(self, path: str, query: str = "", given: Mapping[str, str] | None = None) -> UiAnswer | None:
        """The answer to a GET; None if there is nothing at this path.

        Args:
            path: What follows `/ui/`, decoded.
            query: As it was sent, without the `?`.
            given: The request's headers; the names must match in any case.
        """
        given = given or {}
        if path == "":
            return self._file(self._files.page, CHECK_EACH_TIME, given)
        if asset := _ASSET.fullmatch(path):
            return self._asset(asset["digest"], asset["path"], given)
        if _VIEW.fullmatch(path):
            return self.moved(_behind_the_hash(path, query))
        return None

    def moved(self, to: str) -> UiAnswer:
        """A redirect, relative to the address that was asked for: the prefix is the browser's knowledge."""
        return UiAnswer(302, {**self._headers, "Location": to})

    def _asset(self, digest: str, path: str, given: Mapping[str, str]) -> UiAnswer | None:
        """A digest of another version gets this version's file, to be asked for again the next time."""
        found = self._files.asset(path)
        if found is None:
            return None
        return self._file(found, FOREVER if digest == self._files.digest else CHECK_EACH_TIME, given)

    def _file(self, file: UiFile, caching: str, given: Mapping[str, str]) -> UiAnswer:
        headers = {**self._headers, "Cache-Control": caching, "ETag": file.etag, "Vary": "Accept-Encoding"}
        if file.etag in given.get("If-None-Match", ""):
            return UiAnswer(304, headers)
        headers["Content-Type"] = f"{file.content_type}; charset=utf-8"
        if "gzip" in given.get("Accept-Encoding", ""):
            return UiAnswer(200, {**headers, "Content-Encoding": "gzip"}, file.packed)
        return UiAnswer(200, headers, file.content)


def _behind_the_hash(view: str, query: str) -> str:
    """`workers?state=offline` leads to the view of that name: the page keeps its view behind the `#`."""
    folder = "../" if "/" in view else "./"
    rest = f"?{quote(query, safe='?&=%+,*:~-._/')}" if query else ""
    return f"{folder}#/{quote(view, safe='/%')}{rest}"
