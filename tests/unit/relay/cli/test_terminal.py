"""Questions and watched lists, on a terminal."""

import sys
from pathlib import Path

import pytest

from edge_relay.cli.output import EXIT_FAILED, EXIT_NO_ANSWER, EXIT_OK
from edge_schemas.admin import rows
from edge_schemas.admin.rows import SiteState
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.operators.contract_api import FakeOperators, worker_row
from unit.relay.cli.conftest import Run, Terminal

CLI = [sys.executable, "-m", "edge_relay"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def environment(operators: FakeOperators, token_file: Path) -> dict[str, str]:
    return {
        "RELAY_ADMIN_URL": operators.url,
        "RELAY_ACCESS_TOKEN_FILE": str(token_file),
        "TERM": "xterm",
        "NO_COLOR": "",
    }


@pytest.mark.parametrize(
    ("typed", "status", "posts"), [("y\n", EXIT_OK, 2), ("\n", EXIT_FAILED, 1), ("n\n", EXIT_FAILED, 1)]
)
def test_many_are_changed_only_after_a_question(
    typed: str, status: int, posts: int, operators: FakeOperators, environment: dict[str, str]
) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row(f"w-{i}") for i in range(412)]
    terminal = Terminal([*CLI, "workers", "pause", "--site", "plant-7", "--reason", "x"], environment)
    terminal.until("pause 412 workers with site plant-7? [y/N] ")
    terminal.type(typed)
    assert terminal.status() == status
    assert [body["dry_run"] for _, body in operators.posted] == [True, False][:posts]


def test_a_site_is_changed_only_after_a_question_that_counts_its_workers(
    operators: FakeOperators, environment: dict[str, str]
) -> None:
    operators.lists[routes.ADMIN_SITES] = [
        rows.SiteRow(site="x", state=SiteState.ONLINE, workers=412, online=0, offline=0, paused=0, slots=1, running=0)
    ]
    terminal = Terminal([*CLI, "sites", "pause", "x", "--reason", "y"], environment)
    terminal.until("pause 1 site with 412 workers? [y/N] ")
    terminal.type("y\n")
    assert terminal.status() == EXIT_OK
    assert Terminal([*CLI, "sites", "resume", "x", "--reason", "y"], environment).status() == EXIT_OK
    assert [body["dry_run"] for _, body in operators.posted] == [True, False, True, False]


def test_one_is_changed_without_a_question_and_yes_asks_never(
    operators: FakeOperators, environment: dict[str, str]
) -> None:
    assert Terminal([*CLI, "workers", "pause", "a", "--reason", "x"], environment).status() == EXIT_OK
    assert Terminal([*CLI, "workers", "pause", "a", "b", "--reason", "x", "--yes"], environment).status() == EXIT_OK
    assert [body["dry_run"] for _, body in operators.posted] == [True, False, False]


def test_a_watched_list_follows_and_ends_with_ctrl_c(operators: FakeOperators, environment: dict[str, str]) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row(f"w-{i}") for i in range(60)]
    terminal = Terminal([*CLI, "workers", "list", "--watch"], environment)
    terminal.until("Ctrl-C ends")
    terminal.until("more: filters")
    operators.lists[routes.ADMIN_WORKERS] = [worker_row("newcomer")]
    terminal.until("newcomer")
    terminal.type("\x03")
    assert terminal.status() == EXIT_OK
    assert "Traceback" not in terminal.text
    assert "\x1b[32monline" in terminal.text


def test_a_watched_list_stays_when_the_relay_does_not_answer(
    operators: FakeOperators, environment: dict[str, str]
) -> None:
    def away() -> None:
        raise EdgeError(ErrorCode.BROKER_UNAVAILABLE)

    operators.lists[routes.ADMIN_WORKERS] = [worker_row("w-1")]
    terminal = Terminal([*CLI, "workers", "list", "--watch"], {**environment, "NO_COLOR": "1"})
    terminal.until("w-1")
    operators.on_call = away
    terminal.until("OLD: refused (broker_unavailable)")
    operators.on_call = None
    terminal.until("Ctrl-C ends", times=2)
    terminal.type("\x03")
    assert terminal.status() == EXIT_OK
    assert "\x1b[3" not in terminal.text


def test_no_answer_has_its_own_status(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    def away() -> None:
        raise EdgeError(ErrorCode.BROKER_UNAVAILABLE)

    operators.on_call = away
    assert run("workers", "list") == EXIT_NO_ANSWER
    assert "broker_unavailable" in capsys.readouterr().err
