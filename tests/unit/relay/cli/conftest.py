"""The operators' API that commands call, and a home without contexts."""

import os
import pty
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_relay.cli import main
from support.operators.contract_api import TOKEN, FakeOperators, serving_operators

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for name in ("RELAY_ADMIN_URL", "RELAY_ACCESS_TOKEN", "RELAY_ACCESS_TOKEN_FILE", "RELAY_ADMIN_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def operators() -> Iterator[FakeOperators]:
    with serving_operators() as fake:
        yield fake


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "operators.token"
    file.write_text(TOKEN)
    return file


@pytest.fixture
def run(operators: FakeOperators, token_file: Path) -> Run:
    """Runs a command against the API; returns its exit status."""

    def command(*words: str) -> int:
        return main([*words, "--url", operators.url, "--access-token-file", str(token_file)])

    return command


class Terminal:
    """A command on a terminal of 100 columns and 20 lines, in a process of its own."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(words[0], words, {**os.environ, **environment})
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 100, 0, 0))
        self.text = ""

    def until(self, text: str, *, times: int = 1) -> None:
        """Waits until the command has printed this."""
        while self.text.count(text) < times:
            ready, _, _ = select.select([self._fd], [], [], 20)
            assert ready, f"{text!r} is missing in {self.text!r}"
            self.text += self._read()

    def type(self, text: str) -> None:
        """Types, with Enter or Ctrl-C among it."""
        os.write(self._fd, text.encode())

    def status(self) -> int:
        """The exit status, once it has ended."""
        while chunk := self._read():
            self.text += chunk
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> str:
        try:
            return os.read(self._fd, 1 << 16).decode()
        except OSError:
            # The terminal is closed.
            return ""
