"""The pages promise tests and other pages: they must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    targets = {target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target}
    missing = [target for target in targets if not (page.parent / target).exists()]
    missing += [path for path in set(re.findall(r"`(tests/[\w/]+\.py)`", text)) if not (ROOT / path).exists()]
    assert not missing
