"""Small working trees to measure."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from structure.sources import Module, read

Write = Callable[[Mapping[str, str]], list[Module]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files into one tree and reads the tree."""

    def write_files(files: Mapping[str, str]) -> list[Module]:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return read(tmp_path)

    return write_files
