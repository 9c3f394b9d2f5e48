"""The page of limits names settings, metrics and tests that exist, and the numbers of the code."""

import re
from pathlib import Path

import pytest

from edge_schemas.gate.limits import DEFAULT_LIMITS

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
PAGE = (REFERENCE / "limits.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
LIMITS = [row for row in ROWS if len(row) == 6 and row[0] != "what"]


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0][:40])
def test_a_row_names_what_exists(row: list[str]) -> None:
    _, limit, setting, beyond, metric, test = row
    assert limit
    assert beyond
    settings = (REFERENCE / "settings.md").read_text()
    for name in names(setting):
        plain = name.removeprefix("[edge_relay] ")
        assert f"`{plain}`" in settings or name.startswith(("edge-relay ", "--")), name
    for name in names(metric):
        assert f"`{name}`" in (REFERENCE / "metrics.md").read_text(), name
    for name in names(test):
        assert (ROOT / name).is_file(), name


def test_the_numbers_are_those_of_the_code() -> None:
    limits = {row[0].partition(",")[0]: row[1] for row in LIMITS}
    assert limits["body of a call"] == f"{DEFAULT_LIMITS.max_call_bytes >> 20} MiB"
    assert limits["path and query together"] == f"{DEFAULT_LIMITS.max_path_bytes >> 10} KiB"
    line_kib = DEFAULT_LIMITS.max_line_bytes >> 10
    assert f"large_client_header_buffers 4 {line_kib}k;" in PAGE
    assert f"client_max_body_size {DEFAULT_LIMITS.max_call_bytes >> 20}m;" in PAGE
