"""An edge machine without walls: it stays when its program dies, and takes everything away at its own end.

`python -m local.system.edge_machine --pid-file FILE -- PROGRAM ARGUMENT...`

The program can be killed alone, with what it started living on, as on any machine; SIGUSR1 starts it again unless it
runs. SIGTERM is handed on to the program; once it has ended, whatever is left of its processes goes too. The file holds
the program's process id while it runs.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from local.processes.die_with_parent import follow_parent
from local.processes.process_table import adopt_orphans, family, kill


class Machine:
    """Runs one program at a time and buries whatever ends."""

    def __init__(self, argv: list[str], pid_file: Path) -> None:
        self._argv, self._pid_file = argv, pid_file
        self._program: int | None = None
        self._leaving = False
        self._off = asyncio.Event()

    def start(self) -> None:
        """Start the program, unless it runs."""
        if self._program is not None or self._leaving:
            return
        self._program = os.fork()
        if self._program == 0:
            self._become()
        draft = self._pid_file.with_suffix(".new")
        draft.write_text(str(self._program))
        draft.rename(self._pid_file)

    def bury(self) -> None:
        """Take note of every process that has ended."""
        while (ended := _ended()) is not None:
            if ended == self._program:
                self._program = None
                self._pid_file.unlink(missing_ok=True)
        if self._leaving and self._program is None:
            self._off.set()

    def leave(self, signum: signal.Signals) -> None:
        """Hand the signal on; the machine ends with its program."""
        self._leaving = True
        if self._program is None:
            self._off.set()
        else:
            os.kill(self._program, signum)

    async def stay(self) -> None:
        """Until told to leave; nothing runs afterwards."""
        await self._off.wait()
        for _ in range(2):  # the second time for what was started meanwhile
            await kill({pid: seen for pid, seen in family(os.getpid()).items() if pid != os.getpid()})

    def _become(self) -> None:
        try:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.SIG_DFL)
            follow_parent(os.getppid())
            os.environ.pop("PYTHONPATH", None)  # it leads to this module, which is not the program's business
            os.execv(self._argv[0], self._argv)
        except OSError as problem:
            print(f"machine: {self._argv[0]}: {problem}", file=sys.stderr, flush=True)
        finally:
            os._exit(71)


def _ended() -> int | None:
    """A child, or an orphan that became one, that has ended."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


async def _run(argv: list[str], pid_file: Path) -> None:
    machine, loop = Machine(argv, pid_file), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, machine.bury)
    loop.add_signal_handler(signal.SIGUSR1, machine.start)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, machine.leave, signum)
    machine.start()
    await machine.stay()


def main() -> None:
    """Be the machine."""
    parser = argparse.ArgumentParser(prog="machine", description="Run a program that may die without its machine.")
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    adopt_orphans()
    asyncio.run(_run(options.program, options.pid_file))


if __name__ == "__main__":
    main()
