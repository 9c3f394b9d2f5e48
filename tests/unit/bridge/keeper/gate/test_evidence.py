"""What counts as the same value, and what of a call is compared."""

from typing import Any

import pytest
from cryptography.fernet import InvalidToken

from edge_bridge.keeper.gate.evidence import SentXCom, _connection, is_same_json
from edge_bridge.keeper.gate.repeats import _sent_xcom
from edge_bridge.keeper.gate.upstream import ExecutionCall


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (1, 1.0, True),
        (1, True, False),
        ([0], [False], False),
        (None, None, True),
        (None, 0, False),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ("1", 1, False),
        (float("nan"), float("nan"), False),
    ],
)
def test_a_value_is_the_same_as_a_database_gives_it_back(one: Any, other: Any, *, is_same: bool) -> None:
    assert is_same_json(one, other) is is_same
    assert is_same_json(other, one) is is_same


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", SentXCom(b"1")),
        ("map_index=3", SentXCom(b"1")),
        ("map_index=-1&mapped_length=4&dag_result=true", SentXCom(b"1", is_dag_result=True, mapped_length=4)),
        ("dag_result=False", SentXCom(b"1")),
        ("something_new=1", None),
    ],
)
def test_what_a_call_stores(query: str, expected: SentXCom | None) -> None:
    """What a later Airflow stores in addition is not compared, so such a repeat is never taken for done."""
    assert _sent_xcom(ExecutionCall("POST", "xcoms/d/r/t/k", query, {}, b"1")) == expected


@pytest.mark.parametrize("error", [ValueError("FERNET_KEY configuration is missing"), InvalidToken()])
def test_a_connection_with_another_key_is_not_given(error: Exception) -> None:
    class Encrypted:
        """A test whose password was encrypted with another key."""

        @property
        def password(self) -> str:
            raise error

    test: Any = Encrypted()
    assert _connection(test) is None
