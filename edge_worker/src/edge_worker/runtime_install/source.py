"""Where the packages of a runtime come from: an index, or a folder of wheels."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_worker.settings import SettingsError


@dataclass(frozen=True)
class Source:
    """Where packages come from.

    Attributes:
        wheels: A folder with all packages; then no index is used.
        index_url: Replaces the index that pip is configured for; may contain a password.
    """

    wheels: Path | None = None
    index_url: str | None = None

    def __str__(self) -> str:
        if self.wheels is not None:
            return f"the wheels in {self.wheels}"
        if self.index_url is None:
            return "the package index that pip is configured for"
        parts = urlsplit(self.index_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def arguments(self) -> list[str]:
        """Arguments for pip. The index URL may contain a password and is passed in the environment."""
        return [] if self.wheels is None else ["--no-index", "--find-links", str(self.wheels)]

    @property
    def unwanted(self) -> tuple[str, ...]:
        """Variables that would add other sources."""
        return () if self.wheels is None else ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


def index_without_password(url: str) -> str:
    """Checks an index URL from the command line, which every user of the machine can read.

    Raises:
        SettingsError: The URL contains a user, or is invalid.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "file"} or (parts.scheme != "file" and not parts.hostname):
        raise SettingsError("--index-url must look like https://mirror.example.com/simple")
    if parts.username is not None:
        raise SettingsError(
            "--index-url must not contain a user or a password, because every user of the machine can read arguments: "
            "set PIP_INDEX_URL, or put them into ~/.netrc"
        )
    return url
