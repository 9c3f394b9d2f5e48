"""The page about causes has each cause once, and no other."""

import re
from pathlib import Path

from edge_schemas.admin.why import CauseCode

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "why-is-my-task-queued.md"


def test_the_page_has_each_cause_once() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(CauseCode)
