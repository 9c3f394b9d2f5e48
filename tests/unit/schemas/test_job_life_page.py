"""The events of a job in code, on the page and in the property test are the same ones."""

import ast
import re
from pathlib import Path
from typing import get_args

from edge_schemas.life.events import EVENTS, Event

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/job-life.md"
RULES = ROOT / "tests/property/test_job_life.py"
CREATION = "publish"
"""Makes the record, so it is no event that changes one."""
_LABEL = re.compile(r"─([a-z][a-z ,]*)")
_ROW = re.compile(r"^\| ([a-z ]+) \|", re.MULTILINE)


def names() -> set[str]:
    """`ReportUserCode` is "report user code" for people."""
    return {re.sub(r"(?<!^)([A-Z])", r" \1", event.__name__).lower() for event in EVENTS}


def test_the_tuple_has_every_event() -> None:
    assert set(EVENTS) == set(get_args(Event))
    assert len(EVENTS) == len(set(EVENTS))


def test_the_table_has_a_row_for_each_event() -> None:
    rows = _ROW.findall(PAGE.read_text())
    assert rows[0] == "event"
    assert len(rows) == len(set(rows))
    assert set(rows[1:]) == names() | {CREATION}


def test_the_drawing_names_each_event() -> None:
    drawing = PAGE.read_text().split("```")[1]
    labels = {label.strip() for found in _LABEL.findall(drawing) for label in found.split(",")}
    assert labels == names() | {CREATION}


def test_the_property_test_exercises_each_event() -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(RULES.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert {event.__name__ for event in EVENTS} - calls == set()
