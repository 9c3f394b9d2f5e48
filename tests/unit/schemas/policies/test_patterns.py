"""Which names a pattern allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_schemas.policies.patterns import MAX_MATCHED_CHARS, is_match, literal
from edge_schemas.policies.policy import PolicyFile


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("erp", "erp", True),
        ("erp", "ERP", False),
        ("erp", "erp\n", False),
        ("erp_*", "erp_", True),
        ("erp_*", "xerp_a", False),
        ("*", "", True),
        ("*", "a/b\nc", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[ab]c", "bc", True),
        ("[ab]c", "[ab]c", False),
        ("plant.*", "plantXrate", False),
        ("caf\u00e9", "cafe\u0301", False),  # the same to the eye
        ("*", "a/../b", False),
        ("*", "..", False),
        ("*", "a\\.\\b", False),
        ("a/../b", "a/../b", True),
        ("*", "a..b/c.", True),
        ("s3://*", "s3://bucket/key", True),
        ("*", "x" * (MAX_MATCHED_CHARS + 1), False),
    ],
)
def test_a_pattern_matches_the_whole_name(pattern: str, name: str, expected: bool) -> None:
    assert is_match(pattern, name) is expected


@given(st.text(alphabet="ab*?[]!-./\\é%\n", max_size=20), st.text(alphabet="ab*?[]!-./\\é%\n", max_size=20))
def test_a_literal_matches_its_name_and_no_other(name: str, other: str) -> None:
    assert not is_match(literal(name), other) or name == other
    if not {".", ".."} & set(name.replace("\\", "/").split("/")):
        assert is_match(literal(name), name)


def test_many_wildcards_take_no_time() -> None:
    """A pattern with backtracking would take longer than the test's time-out."""
    assert not is_match("*a" * 150, "a" * 140 + "b" * 1800)


@pytest.mark.parametrize("pattern", ["", "a\nb", "x" * 301, "a\u202eb"])
def test_a_pattern_is_one_short_line(pattern: str) -> None:
    with pytest.raises(ValidationError):
        PolicyFile.model_validate({"allow": {"connection": [pattern]}})
