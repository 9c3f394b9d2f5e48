"""The page of limits shows the defaults of the relay's settings."""

import re
from pathlib import Path

import pytest

from edge_relay.limits.kinds import Limit
from edge_relay.limits.settings import LimitSettings

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "limits.md").read_text()
UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def shown(value: float) -> str:
    """A number as the page writes it."""
    unit, size = next(((unit, size) for unit, size in UNITS if value >= size and value % size == 0), ("", 1))
    return f"{value / size:,.0f} {unit}".strip()


@pytest.mark.parametrize("name", LimitSettings.model_fields)
def test_a_setting_has_its_row_and_its_number(name: str) -> None:
    default = LimitSettings.model_fields[name].default
    if default == ():
        assert f"`RELAY_{name.upper()}`" in PAGE
        return
    [row] = [line for line in PAGE.splitlines() if f"| `RELAY_{name.upper()}` |" in line]
    if default is not None:
        limit = row.split(" | ")[1]
        assert re.match(rf"{re.escape(shown(default))}\b", limit), (limit, shown(default))


def test_each_limit_has_a_row() -> None:
    for limit in Limit:
        assert f"`edge_relay_limited_total`: {limit} " in PAGE, limit
