"""Commands whose output is piped into a program that has read enough."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_service.closed_pipe import run_until_closed

BIN = Path(sys.executable).parent


def _run(*command: str) -> tuple[int, str]:
    """Status and errors of a command whose standard output is closed by its reader before the first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        return process.wait(timeout=50), process.stderr.read()


@pytest.mark.parametrize("command", ["edge-relay", "edge-worker"])
def test_help_into_a_closed_pipe_is_quiet(command: str) -> None:
    assert _run(str(BIN / command), "--help") == (0, "")


@pytest.mark.parametrize("flush", [True, False])
def test_lines_into_a_closed_pipe_are_quiet(*, flush: bool) -> None:
    program = (
        "from edge_service.closed_pipe import run_until_closed\n"
        f"run_until_closed(lambda: len([print(line, flush={flush}) for line in range(3)]))"
    )
    assert _run(sys.executable, "-c", program) == (0, "")


def test_a_command_keeps_its_status() -> None:
    assert run_until_closed(lambda: 3) == 3
