"""An edge machine without a sandbox: it keeps running when its program dies, and ends all processes when it ends.

`python -m local.system.edge_machine --pid-file FILE -- PROGRAM ARGUMENT...`

The program can be killed alone. Processes that it started continue to run, as on any machine. SIGUSR1 starts the
program again, unless it runs. SIGTERM is forwarded to the program; after the program's end, all its remaining processes
are ended too. The file contains the program's process id while the program runs.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from local.processes.die_with_parent import die_with_parent
from local.processes.orphans import adopt_orphans, end_descendants

_EXIT_NOT_STARTED = 71


class EdgeMachine:
    """Runs one program at a time, and reaps every process that ends."""

    def __init__(self, argv: list[str], pid_file: Path) -> None:
        self._argv, self._pid_file = argv, pid_file
        self._program: int | None = None
        self._stopping = False
        self._stopped = asyncio.Event()

    def start_program(self) -> None:
        """Start the program, unless it runs."""
        if self._program is not None or self._stopping:
            return
        self._program = os.fork()
        if self._program == 0:
            self._become_program()
        draft = self._pid_file.with_suffix(".new")
        draft.write_text(str(self._program))
        draft.rename(self._pid_file)

    def reap(self) -> None:
        """Reap every process that has ended."""
        while (ended := _reap_one()) is not None:
            if ended == self._program:
                self._program = None
                self._pid_file.unlink(missing_ok=True)
        if self._stopping and self._program is None:
            self._stopped.set()

    def stop(self, signum: signal.Signals) -> None:
        """Forward the signal; the machine stops when its program has ended."""
        self._stopping = True
        if self._program is None:
            self._stopped.set()
        else:
            os.kill(self._program, signum)

    async def run(self) -> None:
        """Run until `stop` was called and the program has ended; then end all remaining processes."""
        self.start_program()
        await self._stopped.wait()
        await end_descendants()

    def _become_program(self) -> None:
        try:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.SIG_DFL)
            die_with_parent(os.getppid())
            os.environ.pop("PYTHONPATH", None)  # it leads to this module, which the program must not see
            os.execv(self._argv[0], self._argv)
        except OSError as problem:
            print(f"edge machine: {self._argv[0]}: {problem}", file=sys.stderr, flush=True)
        finally:
            os._exit(_EXIT_NOT_STARTED)


def _reap_one() -> int | None:
    """Process id of a child, or of an adopted orphan, that has ended."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return pid or None


async def _run(argv: list[str], pid_file: Path) -> None:
    machine, loop = EdgeMachine(argv, pid_file), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, machine.reap)
    loop.add_signal_handler(signal.SIGUSR1, machine.start_program)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, machine.stop, signum)
    await machine.run()


def main() -> None:
    """Run the machine."""
    parser = argparse.ArgumentParser(prog="edge_machine", description="Run a program that may die without its machine.")
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    adopt_orphans()
    asyncio.run(_run(options.program, options.pid_file))


if __name__ == "__main__":
    main()
