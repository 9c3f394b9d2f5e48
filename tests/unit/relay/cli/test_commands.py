"""The command `edge-relay` with input that can't be right: a line that helps, no traceback, no secret."""

from pathlib import Path

import pytest

from edge_relay.cli import main
from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE


@pytest.mark.parametrize("content", ["hunter2\nhunter2", "hunter2 hunter2", "hunter2\u20ac", "hunter2\x1b"])
def test_what_can_be_no_access_token_is_not_repeated(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    status = main(["workers", "list", "--access-token-file", str(file), "--url", "http://127.0.0.1:1"])
    said = capsys.readouterr().err
    assert status == EXIT_USAGE
    assert "access token" in said
    assert "hunter2" not in said


def test_an_address_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text("era_x")
    status = main(["workers", "list", "--access-token-file", str(file), "--url", "http://[::1"])
    assert status == EXIT_NO_ANSWER
    assert "--url" in capsys.readouterr().err


def test_credentials_in_the_address_of_nats_are_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    url = "nats://admin:hunter2@127.0.0.1:1"
    status = main(["streams", "apply", "--nats-urls", url, "--admin-password-file", str(file)])
    said = capsys.readouterr().err
    assert status == EXIT_USAGE
    assert "credentials" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("queues", "site", "words"),
    [
        ("default", "Plant.7", "site: must be a DNS label: lower-case letters, digits and inner hyphens, at most 63"),
        ("x" * 101, "plant", "queues.0: must have 1 to 100 characters, no white space at either end"),
    ],
)
def test_a_name_that_is_not_allowed(
    queues: str, site: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("era_x")
    words_typed = ["enroll-token", "create", "--queues", queues, "--site", site, "--access-token-file", str(file)]
    assert main(words_typed) == EXIT_USAGE
    assert words in capsys.readouterr().err
