"""Writes the generated pages, most of them under `docs/reference/`, or checks that they are up to date.

`make docs` writes, `make check` checks. Never edit a generated page: change its source and
run `make docs`.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import commands_page
import fates_page
import log_events_page
import metrics_page
from edge_bridge.provider_info import OPTIONS
from edge_broker.permissions import ROLES, rights
from edge_relay.settings import Settings as RelaySettings
from edge_schemas.openapi import document
from edge_schemas.wire.errors import ERRORS
from edge_worker.settings import Settings as WorkerSettings

REFERENCE = Path(__file__).parent / "reference"
DECISIONS = Path(__file__).parent / "adr"
DECISION = re.compile(r"# (\d{4}): (.+)\n\n\*\*Status:\*\* (.+), \d{4}-\d\d-\d\d\n")
"""The beginning of each decision: number, title, status and the date of the status."""


def problem_codes() -> str:
    """The table of problem codes, from the table that relay and worker use."""
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


def openapi_document() -> str:
    """The wire between worker and relay, as the relay serves it."""
    return json.dumps(document.openapi_document(), indent=2, ensure_ascii=False) + "\n"


def settings() -> str:
    """Every setting of the three parts, from the code that reads them."""
    options = "".join(
        f"| `{name}` | {_default(option['default'] or None)} | {_cell(option['description'])} |\n"
        for name, option in OPTIONS.items()
    )
    return (
        "# Settings\n\n"
        "## Relay\n\n"
        "Environment variables of `edge-relay serve`. Secrets are read from files.\n\n"
        f"{_environment('RELAY_', RelaySettings)}\n"
        "## Bridge\n\n"
        "Section `[edge_relay]` of Airflow's configuration, or `AIRFLOW__EDGE_RELAY__<NAME>` in the environment.\n\n"
        "| option | default | what it does |\n|---|---|---|\n"
        f"{options}\n"
        "## Worker\n\n"
        "Environment variables of `edge-worker`. The TOML file of `--config` uses the same names, in lower case and\n"
        "without the prefix; options have hyphens. An option overrides the environment, and the environment overrides\n"
        "the file.\n\n"
        f"{_environment('EDGE_WORKER_', WorkerSettings)}"
    )


def nats_rights() -> str:
    """The rights of each NATS user, from the code that configures the server."""
    sections = "".join(
        f"## `{role}`\n\nMay publish to: {_subjects(rights(role).publish)}.\n\n"
        f"May subscribe to: {_subjects(rights(role).subscribe)}.\n\n"
        for role in ROLES
    )
    return (
        "# Rights of the NATS users\n\n"
        "One user per component; a worker has none. `edge-relay nats-config` prints a server configuration with them."
        "\n\n"
        f"{sections.rstrip()}\n"
    )


def decisions() -> str:
    """The index of the decisions, from the first lines of each.

    Raises:
        ValueError: A decision does not begin with its title and its status.
    """
    rows = ""
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        head = DECISION.match(path.read_text(encoding="utf-8"))
        if head is None or not path.name.startswith(f"{head[1]}-"):
            raise ValueError(f"{path} does not begin with '# {path.name[:4]}: TITLE' and its status")
        rows += f"| [{head[1]}]({path.name}) | {_cell(head[2])} | {head[3]} |\n"
    return (
        "# Decisions\n\n"
        "Each page records the decision, its reasons, the measurements, and when to reconsider. `make docs` generates\n"
        "this list.\n\n"
        "| number | decision | status |\n|---|---|---|\n"
        f"{rows}"
    )


def _environment(prefix: str, model: type[BaseModel]) -> str:
    # Settings that the model inherits come last.
    fields = sorted(model.model_fields.items(), key=lambda field: field[0] not in model.__annotations__)
    rows = "".join(
        f"| `{prefix}{name.upper()}` | {_default(_plain_default(field))} | {_cell(field.description or '')} |\n"
        for name, field in fields
    )
    return f"| variable | default | what it does |\n|---|---|---|\n{rows}"


def _plain_default(field: FieldInfo) -> object:
    """The default; None if it depends on the machine: then the description explains it."""
    is_of_this_machine = isinstance(field.default, Path) and field.default.is_absolute()
    return None if field.default is PydanticUndefined or is_of_this_machine else field.default


def _default(value: object) -> str:
    if value in (None, (), {}):
        return "none"
    return f"`{', '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _subjects(subjects: Sequence[str]) -> str:
    return ", ".join(f"`{subject}`" for subject in subjects)


# Each page by its path from docs/reference, with the function that returns its text. Add a line for a new page.
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page.page,
    "fates-of-calls.md": fates_page.page,
    "log-events.md": log_events_page.page,
    "metrics.md": metrics_page.page,
    "nats-rights.md": nats_rights,
    "openapi.json": openapi_document,
    "problem-codes.md": problem_codes,
    "settings.md": settings,
    "../adr/README.md": decisions,
}


def stale_pages(pages: dict[str, Callable[[], str]], folder: Path) -> list[str]:
    """The differences between the files and the output of the code, one unified diff for each page.

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
    only_check = parser.parse_args(argv).check
    try:
        return _check() if only_check else _write()
    except log_events_page.TableError as error:
        print(error, file=sys.stderr)
        return 1


def _check() -> int:
    diffs = stale_pages(PAGES, REFERENCE)
    for diff in diffs:
        print(diff)
    if diffs:
        print("Generated pages are out of date: run `make docs`.", file=sys.stderr)
    return 1 if diffs else 0


def _write() -> int:
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
