"""What the two commands share: command line, progress output, signals, error messages."""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from local.processes.process_supervisor import continue_under_supervisor


class Progress:
    """Progress output: permanent lines, and on a terminal one status line that is overwritten."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._tty = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._status = ""

    def print_line(self, text: str) -> None:
        """Print a permanent line."""
        self._clear()
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)

    def show_status(self, text: str) -> None:
        """Show the current status. Without a terminal, print a permanent line if the status has changed."""
        if text == self._status:
            return
        if not self._tty:
            self.print_line(text)
        else:
            self._clear()
            line = f"[{time.monotonic() - self._start:5.1f} s] {text}"
            print(line[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        self._status = text

    def _clear(self) -> None:
        if self._tty:
            print("\r\x1b[K", end="")


def parse_options(description: str, default_directory: Path) -> argparse.Namespace:
    """Parse the command line; `directory` is the folder for everything that a run writes."""
    return options(description, default_directory).parse_args()


def options(description: str, default_directory: Path) -> argparse.ArgumentParser:
    """The options of each demo; one may add its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--dir", dest="directory", type=Path, default=default_directory, help="folder for everything that a run writes"
    )
    return parser


def make_empty(directory: Path) -> Path:
    """Create the folder, or empty it if an earlier run created it. It is this process's until the process ends.

    Raises:
        SystemExit: The folder contains other files, or belongs to a run that has not ended.
    """
    marker = directory / ".edge-relay-run"
    if directory.exists() and any(directory.iterdir()):
        if not marker.exists():
            sys.exit(f"{directory} is not empty and not from an earlier run; choose another folder with --dir")
        if not _lock(marker):
            sys.exit(f"another run still uses {directory}: stop it, or choose another folder with --dir")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()
    _lock(marker)
    return directory


def _lock(marker: Path) -> bool:
    """Lock the file until this process ends; returns whether no other process has locked it."""
    file = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)  # stays open: closing it would end the lock
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True


def run_command(main: Callable[[], Awaitable[int]]) -> int:
    """Run a command under a supervisor. SIGINT, SIGTERM and SIGHUP cancel the command, so that it can clean up."""
    continue_under_supervisor()

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


def error_messages(problem: BaseException) -> list[str]:
    """The messages of an exception, or of all exceptions in an exception group."""
    if isinstance(problem, BaseExceptionGroup):
        return [message for each in problem.exceptions for message in error_messages(each)]
    return [str(problem) or type(problem).__name__]
