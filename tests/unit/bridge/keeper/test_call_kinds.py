"""The table of calls: each allowed call has exactly one kind, and each kind one function."""

import re
from functools import partial

import pytest

from edge_bridge.keeper.gate import answers, call_kinds
from edge_bridge.keeper.gate.call_kinds import HANDLING, Handling
from edge_bridge.keeper.gate.repeats import REPEATS
from edge_bridge.keeper.gate.rules import AUXILIARY_RULES, TASK_RULES, CallKind, Rule, check
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.wire.jobs import AuxiliaryJob, TaskIdentity
from support.airflow.api.writes import WRITES

ID = "01a2020b-14ca-71cd-90f9-af9c47c5bfbd"
TASK = TaskIdentity(ti_id=ID, dag_id="d", task_id="t", run_id="r", try_number=1)
OWN = {"{ti}": ID, "{dag}": "d", "{run}": "r", "{task}": "t", "{auxiliary job}": ID, "*": "any", "**": "a/b"}

RULES: list[tuple[TaskIdentity | AuxiliaryJob, tuple[Rule, ...]]] = [
    (TASK, TASK_RULES),
    *((AuxiliaryJob(kind=kind, id=ID), rules) for kind, rules in AUXILIARY_RULES.items()),
]
CALLS = [
    pytest.param(owner, rules, rule, method, id=f"{type(owner).__name__} {method} {'/'.join(rule.path)}")
    for owner, rules in RULES
    for rule in rules
    for method in sorted(rule.methods)
]

SPECIAL = {
    ("PATCH", "task-instances/{ti}/run"): CallKind.RUN,
    ("PATCH", "task-instances/{ti}/state"): CallKind.STATE,
    ("PUT", "task-instances/{ti}/heartbeat"): CallKind.HEARTBEAT,
    ("POST", "xcoms/{dag}/{run}/{task}/**"): CallKind.XCOM,
    ("POST", "dag-runs/*/*"): CallKind.TRIGGER,
    ("POST", "dag-runs/*/*/clear"): CallKind.CLEAR,
    ("POST", "hitlDetails/{ti}"): CallKind.ASK,
    ("PATCH", "hitlDetails/{ti}"): CallKind.RESPOND,
    ("GET", "connection-tests/{auxiliary job}/connection"): CallKind.FETCH,
    ("PATCH", "connection-tests/{auxiliary job}"): CallKind.RESULT,
}
"""Every other call is a read (GET, HEAD) or a write."""


def example(rule: Rule) -> str:
    return "/".join(OWN.get(segment, segment) for segment in rule.path)


@pytest.mark.parametrize(("owner", "rules", "rule", "method"), CALLS)
def test_an_allowed_call_has_exactly_one_kind(
    owner: TaskIdentity | AuxiliaryJob, rules: tuple[Rule, ...], rule: Rule, method: str
) -> None:
    path = example(rule)
    by_method = CallKind.READ if method in {"GET", "HEAD"} else CallKind.WRITE
    expected = SPECIAL.get((method, "/".join(rule.path)), by_method)
    assert check(method, split_path(path), "", owner) is expected
    matching = {one.kind_of(method) for one in rules if method in one.methods and _fits(one, path)}
    assert matching == {expected}


def test_each_kind_occurs_in_the_rules() -> None:
    kinds = {rule.kind_of(method) for _, rules in RULES for rule in rules for method in rule.methods}
    assert kinds == set(CallKind)


def test_each_write_of_the_rules_is_made_through_each_fault() -> None:
    """By `tests/integration/keeper/test_repeated_writes.py`."""
    writes = {
        (method, "/".join(rule.path))
        for _, rules in RULES
        for rule in rules
        for method in rule.methods
        if rule.kind_of(method) is not CallKind.READ
    }
    assert {(write.method, write.rule) for write in WRITES} == writes


def test_each_kind_has_one_function_of_its_own() -> None:
    own = {kind: handling for kind, handling in HANDLING.items() if kind not in REPEATS}
    assert {
        CallKind.READ: Handling(call_kinds.read, if_to_stop=answers.stop_read, in_turn=False),
        CallKind.HEARTBEAT: Handling(
            call_kinds.heartbeat, if_to_stop=answers.stop_write, in_turn=False, compares=False
        ),
        CallKind.RUN: Handling(call_kinds.run, if_to_stop=answers.stop_write, in_turn=True, compares=False),
        CallKind.STATE: Handling(call_kinds.final_state, if_to_stop=answers.stop_write, in_turn=True, compares=False),
        CallKind.WRITE: Handling(call_kinds.write, if_to_stop=answers.stop_write, in_turn=True),
    } == own
    assert len({handling.answer for handling in own.values()}) == len(own)


def test_each_other_kind_has_a_repeat_of_its_own() -> None:
    for kind, repeat in REPEATS.items():
        handling = HANDLING[kind]
        assert isinstance(handling.answer, partial)
        assert (handling.answer.func, handling.answer.args) == (call_kinds.write_once, (repeat,))
        assert (handling.if_to_stop, handling.in_turn) == (answers.stop_write, True)
    assert len({repeat.done for repeat in REPEATS.values()}) == len(REPEATS)
    assert HANDLING.keys() == set(CallKind)


def _fits(rule: Rule, path: str) -> bool:
    """Whether a path may be meant by a rule, decided apart from `check`."""
    parts = {**{name: re.escape(value) for name, value in OWN.items()}, "*": "[^/]+", "**": ".+"}
    return bool(re.fullmatch("/".join(parts.get(segment, re.escape(segment)) for segment in rule.path), path))
