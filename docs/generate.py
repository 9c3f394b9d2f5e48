"""Writes the pages under `docs/reference/` that are made from code, or checks that they are up to date.

`make docs` writes, `make check` checks. A page made from code is never edited by hand: change the code, write again.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_schemas.errors import ERRORS

REFERENCE = Path(__file__).parent / "reference"


def problem_codes() -> str:
    """The table of problem codes, from the one that the relay answers with and the worker obeys."""
    rows = "".join(
        f"| `{code}` | {kind.status} | {'yes' if kind.retryable else 'no'} | {kind.title} | {kind.worker_does} |\n"
        for code, kind in ERRORS.items()
    )
    return (
        "# Problem codes\n\n"
        "Every error answer of the relay is an RFC 9457 document (`application/problem+json`) with the members\n"
        "`code`, `retryable` and `request_id` added. The code is the contract; title and detail are for people and\n"
        "may change. Retryable means that the same call may succeed later.\n\n"
        "| code | HTTP | retryable | meaning | a worker |\n"
        "|---|---|---|---|---|\n"
        f"{rows}"
    )


# Each page and what makes it; a function returns the whole text. A new generated page is one more line.
PAGES: dict[str, Callable[[], str]] = {
    "problem-codes.md": problem_codes,
}


def stale_pages(pages: dict[str, Callable[[], str]], folder: Path) -> list[str]:
    """The differences between what is written and what the code says now, one unified diff for each page.

    Args:
        pages: File name to the function that makes its text.
        folder: Where the files are; a missing one counts as empty.
    """
    diffs = []
    for name, make in pages.items():
        path = folder / name
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        made = make()
        if written != made:
            lines = difflib.unified_diff(
                written.splitlines(), made.splitlines(), f"{name} (written)", name, lineterm=""
            )
            diffs.append("\n".join(lines))
    return diffs


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or with `--check` print what differs and return 1 if anything does."""
    parser = argparse.ArgumentParser(description="Write the generated reference pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    if parser.parse_args(argv).check:
        diffs = stale_pages(PAGES, REFERENCE)
        for diff in diffs:
            print(diff)
        if diffs:
            print("Generated pages are out of date: run `make docs`.", file=sys.stderr)
        return 1 if diffs else 0
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
