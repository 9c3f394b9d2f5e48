"""Which changes of the free slots executors learn at once."""

import pytest

from edge_relay.pulls.demand_reports import has_changed


@pytest.mark.parametrize(
    ("sent", "free", "is_reported"),
    [
        ({}, {}, False),
        ({}, {"a": 1}, True),
        ({"a": 1}, {}, True),
        ({"a": 1}, {"a": 2}, True),
        ({"a": 63}, {"a": 62}, True),
        ({"a": 1000}, {"a": 990}, False),
        ({"a": 1000}, {"a": 1010}, False),
        ({"a": 1000}, {"a": 980}, True),
        ({"a": 1000, "b": 3}, {"a": 1000, "b": 2}, True),
        ({"a": 1000}, {"b": 1000}, True),
    ],
)
def test_a_change_by_a_small_part_waits(sent: dict[str, int], free: dict[str, int], *, is_reported: bool) -> None:
    assert has_changed(sent, free) is is_reported
