"""What people may write for times and settings."""

from argparse import ArgumentTypeError
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edge_relay.cli.arguments import option_types as types

NOW = datetime(2026, 11, 29, 17, 0, tzinfo=ZoneInfo("UTC")).astimezone()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW + timedelta(hours=2)),
        ("90s", NOW + timedelta(seconds=90)),
        ("7d", NOW + timedelta(days=7)),
        ("2099-12-01T08:00+01:00", datetime.fromisoformat("2099-12-01T08:00+01:00")),
        ("2099-12-01T08:00Z", datetime.fromisoformat("2099-12-01T08:00+00:00")),
        ("2099-12-01 08:00", datetime(2099, 12, 1, 8, 0).astimezone()),
    ],
)
def test_a_moment_in_the_future(text: str, expected: datetime) -> None:
    assert types._instant(text, NOW) == expected


def test_a_time_of_day_that_is_over_is_meant_for_tomorrow() -> None:
    later, earlier = (NOW + timedelta(minutes=5)), (NOW - timedelta(minutes=5))
    assert types._instant(f"{later:%H:%M}", NOW) == later
    assert types._instant(f"{earlier:%H:%M}", NOW) == earlier + timedelta(days=1)
    assert types._instant(f"tomorrow {later:%H:%M}", NOW) == later + timedelta(days=1)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "12:60", "2020-01-01T00:00", "-2h", "2026-13-01", "٢h"])
def test_what_is_no_moment_in_the_future(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        types.instant(text)


def test_a_moment_in_the_past_is_before_now() -> None:
    found = types.past_instant("2h")
    assert datetime.now().astimezone() - found >= timedelta(hours=2)
    for hour in ("00:00", "12:00", "23:59"):
        assert timedelta(0) <= datetime.now().astimezone() - types.past_instant(hour) <= timedelta(days=1, hours=1)


def test_settings_with_a_default() -> None:
    assert types.seconds_or_default("12h") == 43200
    assert types.seconds_or_default("default") is None
    assert types.count_or_default("default") is None
    assert types.count_or_default("3") == 3
    assert types.names_or_default("task, callback") == ["task", "callback"]
    assert types.seconds_or_never("never") is None
    for wrong in (types.count_or_default, types.positive, types.seconds, types.size, types.port):
        with pytest.raises(ArgumentTypeError):
            wrong("-1")
    with pytest.raises(ArgumentTypeError):
        types.label("line7")
    assert types.label("line=7=b") == ("line", "7=b")
