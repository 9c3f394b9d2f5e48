"""What the two commands share: their options, their progress line, their signals, how they say what went wrong."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from local.processes.process_supervisor import guarded


class Progress:
    """Says how far things are: lines that stay, and on a terminal one that is written over."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._tty = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._shown = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        """The state of the moment; a line of its own only where lines cannot be written over and it is news."""
        if text == self._shown:
            return
        if not self._tty:
            self.say(text)
        else:
            self._clear()
            line = f"[{time.monotonic() - self._start:5.1f} s] {text}"
            print(line[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        self._shown = text

    def _clear(self) -> None:
        if self._tty:
            print("\r\x1b[K", end="")


def options(description: str, default_directory: Path) -> argparse.Namespace:
    """The command line; `directory` is where everything goes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--dir", dest="directory", type=Path, default=default_directory, help="folder for everything that runs"
    )
    return parser.parse_args()


def fresh(directory: Path) -> Path:
    """The folder, empty. Only what an earlier run made is taken away.

    Raises:
        SystemExit: There is something else in it.
    """
    marker = directory / ".edge-relay-run"
    if directory.exists() and any(directory.iterdir()):
        if not marker.exists():
            sys.exit(f"{directory} is not empty and not of an earlier run; name another with --dir")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()
    return directory


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run a command to its end, guarded; SIGINT, SIGTERM and SIGHUP cancel it, so that it can clean up."""
    guarded()

    async def cancellable() -> int:
        task = asyncio.ensure_future(main())
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return 130

    return asyncio.run(cancellable())


def reasons(problem: BaseException) -> list[str]:
    """What went wrong, out of groups."""
    if isinstance(problem, BaseExceptionGroup):
        return [reason for each in problem.exceptions for reason in reasons(each)]
    return [str(problem) or type(problem).__name__]
