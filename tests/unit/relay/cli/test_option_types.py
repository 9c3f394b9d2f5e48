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
    now = datetime.now().astimezone()
    assert types.period("2h", None, now) == (now - timedelta(hours=2), None)
    for hour in ("00:00", "12:00", "23:59"):
        for begin, end in (types.period(hour, None, now), types.period(None, hour, now)[::-1]):
            assert end is None
            assert begin is not None
            assert timedelta(0) <= now - begin <= timedelta(days=1, hours=1)
    with pytest.raises(ArgumentTypeError):
        types.past("yesterday")


@pytest.mark.parametrize(
    ("now", "begin", "end"),
    [
        ("07:00", "29T18:00", "30T08:00"),  # the night lasts
        ("09:00", "29T18:00", "30T08:00"),
        ("17:59", "29T18:00", "30T08:00"),
        ("18:00", "30T18:00", "31T08:00"),  # the next one has begun
    ],
)
def test_two_times_of_day_are_the_newest_period_that_has_begun(now: str, begin: str, end: str) -> None:
    at = datetime.fromisoformat(f"2026-10-30T{now}").astimezone()
    ends = tuple(datetime.fromisoformat(f"2026-10-{one}").astimezone() for one in (begin, end))
    assert types.period("18:00", "08:00", at) == ends


def test_the_end_of_a_period_may_be_a_date_or_follow_one() -> None:
    now = datetime.fromisoformat("2026-10-30T20:00").astimezone()
    day = datetime.fromisoformat("2026-10-20T18:00").astimezone()
    assert types.period("2026-10-20T18:00", "08:00", now) == (day, day + timedelta(hours=14))
    assert types.period("18:00", "2026-10-30T19:00", now) == (now - timedelta(hours=2), now - timedelta(hours=1))


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
