"""The commands of `compose/README.md` as written, and the command of the README that needs Docker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages.compose_page import COMPOSE, Expected
from support.pages.pages import ROOT
from support.pages.readme_pages import BY_COMPOSE
from support.system.compose_stack import Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A project whose images are built and whose services are not started."""
    stack = Stack("edge-relay-page-test", tmp_path / "dags", ["*"])
    stack.down()
    try:
        stack.compose("build", "--quiet")
        yield stack
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.down()


def test_each_command_of_the_page_works(stack: Stack, tmp_path: Path) -> None:
    """In order: the last commands stop and remove everything."""
    for command in COMPOSE.commands:
        if command not in COMPOSE.not_run:
            _run(stack, command, COMPOSE.run[command], tmp_path)
    archives = ["jetstream.tar", "airflow.sql", "vault.tar", "ca.pem"]
    assert all((tmp_path / name).stat().st_size for name in archives)


@pytest.mark.parametrize("command", BY_COMPOSE)
def test_the_command_of_the_readme(stack: Stack, command: str) -> None:
    _run(stack, command, BY_COMPOSE[command], ROOT)


def _run(stack: Stack, command: str, expected: Expected, folder: Path) -> None:
    print(f"$ {command}")
    status, output = stack.shell(command, folder)
    assert status == 0 or expected.may_fail, output
    assert expected.prints in output
