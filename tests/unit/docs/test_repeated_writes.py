"""The page on repeated writes lists each write of the gate's rules once, with its kind."""

import re
from pathlib import Path

from edge_bridge.keeper.gate.repeats import REPEATS
from edge_bridge.keeper.gate.rules import AUXILIARY_RULES, TASK_RULES, CallKind

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "repeated-writes.md"
RULES = [*TASK_RULES, *(rule for rules in AUXILIARY_RULES.values() for rule in rules)]


def rows() -> list[tuple[str, str, str]]:
    """The calls of each row, its kind, and how a repeat is recognised."""
    cells = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [(call, cell[1], cell[3].strip()) for cell in cells for call in re.findall(r"`([A-Z]+ [^`]+)`", cell[0])]


def test_the_page_has_each_write_once_with_its_kind() -> None:
    writes = {
        f"{method} {'/'.join(rule.path)}": rule.kind_of(method).name.lower()
        for rule in RULES
        for method in rule.methods
        if rule.kind_of(method) is not CallKind.READ
    }
    assert sorted((call, kind) for call, kind, _ in rows()) == sorted(writes.items())


def test_the_page_says_which_writes_are_noted() -> None:
    noted = {kind for _, kind, recognised in rows() if recognised.startswith("noted")}
    assert noted == {kind.name.lower() for kind in REPEATS}
    with_state = {kind for _, kind, recognised in rows() if recognised.startswith("noted with")}
    assert with_state == {kind.name.lower() for kind, repeat in REPEATS.items() if repeat.note is not None}


def test_the_page_says_which_answers_are_not_kept() -> None:
    (sentence,) = re.findall(r"Answers to (.+) are not kept", PAGE.read_text())
    assert set(re.findall(r"`(\w+)`", sentence)) == {
        kind.name.lower() for kind, repeat in REPEATS.items() if not repeat.keep_answer
    }
