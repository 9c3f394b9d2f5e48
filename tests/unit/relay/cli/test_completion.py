"""The completion of a shell: every command and option, and names that the relay knows."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_relay.cli import main
from edge_relay.cli.output import EXIT_OK
from edge_schemas.admin import rows
from edge_schemas.wire import routes
from support.operators.contract_api import FakeOperators, queue_row, worker_row
from unit.relay.cli.conftest import Run

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, capsys: Capture) -> None:
    assert main(["completion", shell]) == EXIT_OK
    script = capsys.readouterr().out
    words = ("redrive", "labels", "dry-run", "standalone", "nats-urls")
    asks = tuple(f"edge-relay names {kind}" for kind in ("workers", "sites", "queues"))
    assert [word for word in (*words, *asks) if word not in script] == []


def test_names_are_those_that_begin_so(run: Run, operators: FakeOperators, capsys: Capture) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row("plant-7"), worker_row("plant-8"), worker_row("my-plant")]
    assert run("names", "workers", "plant") == EXIT_OK
    assert capsys.readouterr().out.split() == ["plant-7", "plant-8"]
    operators.lists[routes.ADMIN_QUEUES] = [queue_row("a"), queue_row("$(touch x)"), queue_row("b c"), queue_row("-b")]
    assert run("names", "queues") == EXIT_OK
    assert capsys.readouterr().out.split() == ["a"], "a shell might evaluate the others"


def test_names_are_silent_without_a_relay(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert main(["names", "sites"]) == EXIT_OK
    monkeypatch.setenv("RELAY_ACCESS_TOKEN", "era_x")
    monkeypatch.setenv("RELAY_ADMIN_URL", "http://127.0.0.1:1")
    assert main(["names", "sites"]) == EXIT_OK
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_names_do_not_wait_for_a_relay_that_hangs(run: Run, operators: FakeOperators, capsys: Capture) -> None:
    def hang() -> None:
        time.sleep(4)  # the relay's fault, not a wait of the test

    operators.on_call = hang
    begin = time.monotonic()
    assert run("names", "sites") == EXIT_OK
    assert time.monotonic() - begin < 3
    assert capsys.readouterr().out == ""


def test_bash_completes_a_name(operators: FakeOperators, token_file: Path, tmp_path: Path) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row("plant-7"), worker_row("plant-8"), worker_row("other")]
    operators.lists[routes.ADMIN_SITES] = [
        rows.SiteRow(
            site="plant", state=rows.SiteState.ONLINE, workers=1, online=1, offline=0, paused=0, slots=4, running=0
        )
    ]
    command = tmp_path / "edge-relay"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_relay "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RELAY_ADMIN_URL": operators.url,
        "RELAY_ACCESS_TOKEN_FILE": str(token_file),
    }
    words = {"workers show pl": ["plant-7", "plant-8"], "workers pause --site pl": ["plant"]}
    for typed, expected in words.items():
        line = f"edge-relay {typed}"
        script = (
            f"source <(edge-relay completion bash); COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; "
            'name=$(complete -p edge-relay); name=${name##*-F }; ${name%% *}; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
        assert ended.stdout.split() == expected, ended.stderr
