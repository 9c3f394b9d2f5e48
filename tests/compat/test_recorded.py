"""This version reads what every version wrote, and stored documents with more in them than it knows."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from compat.documents import MODELS, RECEIPT, STORED, kind, opened_receipt
from compat.record import RECORDED, VERSION, written

FILES = sorted(RECORDED.glob("*/*.json"))
DOCUMENTS = [file for file in FILES if file.stem != RECEIPT]
RECEIPTS = [file for file in FILES if file.stem == RECEIPT]
FREE_FORM = frozenset({"workload", "labels", "env"})
"""Fields whose content is Airflow's or a producer's."""


def name_of(file: Path) -> str:
    """For the list of tests."""
    return f"{file.parent.name}/{file.stem}"


def test_the_documents_of_this_version_are_recorded() -> None:
    """If not: `PYTHONPATH=tests python -m compat.record`."""
    folder = RECORDED / VERSION
    assert {file.stem: file.read_text() for file in folder.glob("*.json")} == dict(written())


def test_each_kind_is_recorded() -> None:
    assert {kind(file.stem) for file in DOCUMENTS} == MODELS.keys()


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_it_is_read_and_means_the_same_when_written_again(file: Path) -> None:
    model, text = MODELS[kind(file.stem)], file.read_text()
    read = model.model_validate_json(text)
    again = read.model_dump_json(exclude_none=True)
    assert model.model_validate_json(again) == read
    assert contains(json.loads(again), json.loads(text)), "nothing that was written is lost"


@pytest.mark.parametrize("file", RECEIPTS, ids=name_of)
def test_a_receipt_is_opened(file: Path) -> None:
    document = json.loads(file.read_text())
    assert {"sealed": document["sealed"], **opened_receipt(document)} == document


def contains(new: Any, old: Any) -> bool:
    """Whether all of the old document is in the new one, which may have defaults besides."""
    match new, old:
        case dict(), dict():
            return all(key in new and contains(new[key], value) for key, value in old.items())
        case list(), list():
            return len(new) == len(old) and all(map(contains, new, old))
        case _:
            return bool(new == old)


def objects(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the objects of a document are, but for those with free-form content."""
    match document:
        case dict():
            yield path
            for key, value in document.items():
                if key not in FREE_FORM:
                    yield from objects(value, (*path, key))
        case list():
            for index, value in enumerate(document):
                yield from objects(value, (*path, index))


def parts() -> Iterator[Any]:
    """Each object in each stored document of this version."""
    for file in DOCUMENTS:
        if file.parent.name != VERSION or kind(file.stem) not in STORED:
            continue
        for path in objects(json.loads(file.read_text())):
            place = ".".join(map(str, path))
            yield pytest.param(file, path, id=f"{file.stem}:{place or 'itself'}")


@pytest.mark.parametrize(("file", "path"), list(parts()))
def test_a_stored_document_of_a_newer_version_is_read(file: Path, path: tuple[str | int, ...]) -> None:
    """A newer writer adds a field to any of its parts; what this version knows of it is read as before."""
    model, document = MODELS[kind(file.stem)], json.loads(file.read_text())
    newer = deepcopy(document)
    part = newer
    for step in path:
        part = part[step]
    part["a_field_of_a_later_version"] = {"with": ["content"]}
    assert model.model_validate_json(json.dumps(newer)) == model.model_validate(document)
