"""A bundle with versions whose copies are folders: what git is to Airflow, without git."""

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle
from typing_extensions import override


class FolderOfVersions(BaseDagBundle):
    """Each version is a folder of its name in `root`.

    Args:
        root: The folder.
    """

    supports_versioning = True

    def __init__(self, *, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._root = Path(root)

    @override
    def initialize(self) -> None:
        if self.version is not None and not self.path.is_dir():
            raise RuntimeError(f"https://me:secret@git.example/x has no commit {self.version}")
        super().initialize()

    @property
    @override
    def path(self) -> Path:
        return self._root / (self.version or self.get_current_version())

    @override
    def get_current_version(self) -> str:
        """The one that sorts last."""
        return max(entry.name for entry in self._root.iterdir())

    @override
    def refresh(self) -> None:
        """Folders are always fresh."""
