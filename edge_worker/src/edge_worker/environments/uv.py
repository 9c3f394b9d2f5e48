"""Runs uv: with an environment of its own, without secrets in arguments and lines, ended with all its processes."""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.environment import proxy_environment, uv_environment
from edge_worker.relay.proxy import proxy_variables
from edge_worker.relay.tls import write_authorities
from edge_worker.settings import Settings

MAX_SHOWN, LAST_SHOWN = 150, 50
"""Lines of output that are shown at once, and those of the rest that are shown at the end."""
MAX_LINE = 500
_READ_BYTES = 16 * 1024
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def find_uv() -> Path | None:
    """The uv next to the agent's interpreter, or in PATH; None if there is none."""
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return beside
    found = shutil.which("uv")
    return None if found is None else Path(found)


def uv_variables(settings: Settings, folder: Path) -> dict[str, str]:
    """The complete environment of uv; contains passwords. Temporary files are in `folder`.

    Raises:
        SettingsError: A proxy can't be used.
        OSError: A file can't be written, or an authority not be read.
    """
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o700)
    given = uv_environment()
    variables = {
        **given,
        **proxy_variables(settings, proxy_environment()),
        "TMPDIR": str(temporary),
        # A file in the cache, and in other environments, would be the same file.
        "UV_LINK_MODE": "copy",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
    }
    if "UV_CACHE_DIR" not in given:  # a cache has no bound
        variables["UV_NO_CACHE"] = "1"
    if "SSL_CERT_FILE" not in given and (bundle := write_authorities(settings, folder / "ca.pem")) is not None:
        variables["SSL_CERT_FILE"] = str(bundle)
    return variables


@dataclass
class Output:
    """Passes lines on: a bounded number, each of bounded length, without credentials."""

    say: Callable[[str], None]
    _count: int = 0
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_SHOWN))

    def line(self, text: str) -> None:
        """One line of output."""
        shown = f"uv: {_USER_IN_URL.sub('***', text)[:MAX_LINE]}"
        self._count += 1
        if self._count <= MAX_SHOWN:
            self.say(shown)
        else:
            self._last.append(shown)

    def end(self) -> None:
        """There is no more."""
        left_out = self._count - MAX_SHOWN - len(self._last)
        if left_out > 0:
            self.say(f"uv: ({left_out} lines are left out)")
        for line in self._last:
            self.say(line)
        self._last.clear()


async def run_uv(command: Sequence[str | Path], variables: Mapping[str, str], folder: Path, output: Output) -> None:
    """Run uv to its end. All its processes are ended when this is cancelled.

    Raises:
        CodeUnavailable: It ended with another status than 0.
        OSError: It can't be started.
    """
    process = await asyncio.create_subprocess_exec(
        *(str(part) for part in command),
        env=dict(variables),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        if process.stdout is not None:  # it is a pipe
            await _read_lines(process.stdout, output)
        status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if status != 0:
        raise CodeUnavailable(f"uv ended with status {status}; its output is in this log")


async def _read_lines(stream: asyncio.StreamReader, output: Output) -> None:
    """Lines of any length: what is too long for one is cut."""
    begun = b""
    while data := await stream.read(_READ_BYTES):
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            output.line(line.decode(errors="replace").rstrip())
        begun = begun[:_READ_BYTES]
    if begun:
        output.line(begun.decode(errors="replace"))
    output.end()
