"""Named relays: which one a command calls, and with whose token."""

import json
import stat
from pathlib import Path

import pytest

from edge_relay.cli import main
from edge_relay.cli.output import EXIT_OK, EXIT_USAGE
from edge_schemas.wire import routes
from support.operators.contract_api import TOKEN, FakeOperators, worker_row

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def workers(operators: FakeOperators) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row("w-1")]


def add(name: str, url: str, token_file: Path) -> int:
    return main(["context", "add", name, "--url", url, "--access-token-file", str(token_file)])


def test_a_command_needs_nothing_but_the_current_context(
    operators: FakeOperators, token_file: Path, config_home: Path, capsys: Capture
) -> None:
    assert add("prod", operators.url, token_file) == EXIT_OK
    assert add("test", "http://127.0.0.1:1", token_file) == EXIT_OK
    assert main(["workers", "list"]) == EXIT_OK
    assert "w-1" in capsys.readouterr().out
    assert main(["context", "use", "test"]) == EXIT_OK
    assert main(["workers", "list"]) != EXIT_OK
    assert main(["workers", "list", "--context", "prod"]) == EXIT_OK
    capsys.readouterr()
    assert main(["context", "list", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    assert found["current"] == "test"
    assert found["contexts"]["prod"]["url"] == operators.url
    file = config_home / "edge-relay" / "config.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert TOKEN not in file.read_text()
    assert main(["context", "remove", "test"]) == EXIT_OK
    assert main(["workers", "list", "--context", "test"]) == EXIT_USAGE
    assert "known are prod" in capsys.readouterr().err
    assert token_file.exists()


def test_the_token_of_a_context_is_sent_to_no_other_address(
    operators: FakeOperators, token_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert add("prod", "http://127.0.0.1:1", token_file) == EXIT_OK
    assert main(["workers", "list", "--url", operators.url]) == EXIT_USAGE
    monkeypatch.setenv("RELAY_ADMIN_URL", operators.url)
    assert main(["workers", "list"]) == EXIT_USAGE
    assert main(["workers", "list", "--context", "prod", "--url", operators.url]) == EXIT_USAGE
    assert "an access token is needed" in capsys.readouterr().err
    assert operators.asked == []


def test_the_environment_wins(
    operators: FakeOperators, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("era_wrong")
    assert add("prod", "http://127.0.0.1:1", wrong) == EXIT_OK
    monkeypatch.setenv("RELAY_ADMIN_URL", operators.url)
    monkeypatch.setenv("RELAY_ACCESS_TOKEN", TOKEN)
    assert main(["workers", "list"]) == EXIT_OK
    monkeypatch.delenv("RELAY_ADMIN_URL")
    assert add("prod", operators.url, wrong) == EXIT_OK
    assert main(["workers", "list"]) == EXIT_OK, "the token of the environment, the address of the context"


@pytest.mark.parametrize(
    "text", ["[contexts.prod]\nurl = 5\naccess_token_file = 'x'", "[contexts.prod]\ntoken = 'x'", "contexts = 3", "]"]
)
def test_a_damaged_file_is_named(text: str, config_home: Path, capsys: Capture) -> None:
    file = config_home / "edge-relay" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(["workers", "list"]) == EXIT_USAGE
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "url"),
    [("prod", "https://ann:hunter2@relay"), ("prod", "relay"), ("a b", "https://relay"), ("a.b", "https://relay")],
)
def test_what_can_be_no_context(name: str, url: str, token_file: Path, config_home: Path) -> None:
    assert add(name, url, token_file) == EXIT_USAGE
    assert not config_home.exists()
    assert add("prod", "https://relay", token_file.with_name("missing")) == EXIT_USAGE
