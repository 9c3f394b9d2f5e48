"""Every command of the introductory pages is run by a test, or listed with the reason why no test can run it.

Commands in the text of any page name subcommands that exist.
"""

import configparser
import contextlib
import io
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest

import edge_relay.cli
import edge_worker.cli
from support.pages.compose_page import COMPOSE
from support.pages.fleet_page import FLEET
from support.pages.pages import ROOT, Page
from support.pages.publish_page import PUBLISH
from support.pages.queue_page import QUEUE, RECIPES
from support.pages.quickstart_page import BRIDGE, QUICKSTART, WORKER
from support.pages.readme_pages import BY_COMPOSE, DEMO, LOCAL, README, RELAY, SCHEMAS, UP

PAGES = [README, QUICKSTART, COMPOSE, LOCAL, RELAY, BRIDGE, WORKER, SCHEMAS, FLEET, QUEUE, RECIPES, PUBLISH]
MAINS = {"edge-relay": edge_relay.cli.main, "edge-worker": edge_worker.cli.main}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_each_command_is_run_or_listed(page: Page[Any]) -> None:
    """A command that is neither is untested; a listed command that is not on the page is obsolete."""
    assert set(page.commands) == page.run.keys() | page.not_run.keys()


@each_page
def test_each_command_that_is_not_run_has_a_reason(page: Page[Any]) -> None:
    assert not page.run.keys() & page.not_run.keys()
    named = {path for reason in page.not_run.values() for path in re.findall(r"tests/[\w/]+\.py", reason)}
    assert all(reason for reason in page.not_run.values())
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_each_command_of_the_readme_is_run_in_one_place() -> None:
    assert {DEMO, UP, *BY_COMPOSE} == README.run.keys()


@pytest.mark.parametrize("path", ["README.md", "docs/quickstart.md", "compose/README.md", FLEET.name])
def test_every_block_has_a_known_language(path: str) -> None:
    """A block with another language would not be searched for commands."""
    languages = set(re.findall(r"^ *```(\w+)$", (ROOT / path).read_text(), re.MULTILINE))
    assert languages <= {"sh", "python", "text"}


def test_the_example_of_schemas_prints_its_comment() -> None:
    [example] = SCHEMAS.blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, f"<{SCHEMAS.name}>", "exec"), {})
    assert printed.getvalue().strip() == example.strip().rpartition("  # ")[2]


def test_the_configuration_of_bridge_equals_the_quickstart_s() -> None:
    [block] = BRIDGE.blocks("ini")
    parser = configparser.ConfigParser()
    parser.read_string(block)
    exports = [command.removeprefix("export ") for command in QUICKSTART.commands if command.startswith("export AIR")]
    settings = dict(export.split("=", 1) for export in exports)
    for section in parser.sections():
        for option, value in parser[section].items():
            assert settings[f"AIRFLOW__{section.upper()}__{option.upper()}"].strip("'") == " ".join(value.split())


def named_commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Program and subcommands of each command in inline code, without options and arguments."""
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md"))]:
        for program, rest in re.findall(r"`(edge-relay|edge-worker)\s([^`]+)`", path.read_text(encoding="utf-8")):
            words = takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, rest.split())
            yield program, tuple(words)


@pytest.mark.parametrize(("program", "words"), sorted(set(named_commands())))
def test_each_command_in_the_text_exists(
    program: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        MAINS[program]([*words, "--help"])
    assert ended.value.code == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith(f"usage: {' '.join((program, *words))} ")
