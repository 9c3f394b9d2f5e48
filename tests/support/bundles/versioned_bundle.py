"""A bundle with versions of its own, as a git bundle has. Imports Airflow: named in a bundle's configuration only."""

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion


class VersionedBundle(BaseDagBundle):
    """Its folder holds the current version; the file `VERSION` names it."""

    supports_versioning = True

    def __init__(self, *, path: str, **others: Any) -> None:
        super().__init__(**others)
        self._path = Path(path)

    @property
    def path(self) -> Path:
        """Of the current version, or of another one."""
        return self._path if self.version is None else self._path / "versions" / self.version

    def refresh(self) -> None:
        """Fails while there is no version."""
        (self._path / "VERSION").read_text()

    def get_current_version(self) -> BundleVersion:
        """As the file names it."""
        return BundleVersion((self._path / "VERSION").read_text())
