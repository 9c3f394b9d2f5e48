"""Writes the documents of this version: `PYTHONPATH=tests python -m compat.record`, before a release.

The folders of released versions are never written again. This version's folder is, until it is released.
"""

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from compat.documents import RECEIPT, documents, receipt

RECORDED = Path(__file__).with_name("recorded")
VERSION = version("edge-relay-schemas")


def written() -> Iterator[tuple[str, str]]:
    """Name and text of each document."""
    for name, document in documents().items():
        yield name, _text(json.loads(document.model_dump_json(exclude_none=True)))
    yield RECEIPT, _text(receipt())


def record(folder: Path) -> None:
    """Write all documents there, and remove those that this version does not have."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, text in written():
        (folder / f"{name}.json").write_text(text)


def _text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    record(RECORDED / VERSION)
