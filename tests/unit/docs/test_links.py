"""The pages promise tests, other pages and sections of pages: they must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
READMES = [*sorted(ROOT.glob("*/README.md")), ROOT / "compose/local/README.md"]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), *READMES]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
DISTRIBUTIONS = ("relay", "bridge", "edge_worker", "schemas")
"""The folders of the distributions; the README of each is what its package index shows."""


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them, and those that the page names itself."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([\w-]+)"></a>', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [(target, anchor) for target, anchor in LINK.findall(text) if "://" not in target]
    missing = [target for target, _ in links if target and not (page.parent / target).exists()]
    for target, anchor in links:
        linked = page.parent / target if target else page
        if anchor and linked.suffix == ".md" and linked.exists() and anchor not in anchors(linked):
            missing.append(f"{target}#{anchor}")
    missing += [path for path in set(re.findall(r"`(tests/[\w/]+\.py)`", text)) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("folder", DISTRIBUTIONS)
def test_each_distribution_has_a_readme_of_its_own(folder: str) -> None:
    assert 'readme = "README.md"' in (ROOT / folder / "pyproject.toml").read_text()
    assert "](../docs/README.md)" in (ROOT / folder / "README.md").read_text()
