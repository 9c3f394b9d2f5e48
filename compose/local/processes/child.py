"""Child processes: start a program, wait for it, stop it together with everything that it started."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from local.processes import die_with_parent
from local.processes.process_table import ProcessEntry, kill_processes, process_family

# Foreign module paths change what is tested; a missing bytecode cache makes the start several times slower.
_NOT_INHERITED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV")
_OWN_SETTINGS = ("AIRFLOW_", "_AIRFLOW_", "BRIDGE_", "EDGE_WORKER_", "NATS_", "RELAY_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class ChildFailed(Exception):
    """A child process ended, or did not become ready in time. The text names its log."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without our own settings, proxies and Python switches, plus `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith(_OWN_SETTINGS) and name.lower() not in _PROXIES
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(extra or {})


class Child:
    """One program in its own session, with its output in a file.

    Attributes:
        name: Its name in messages.
        log: File to which its standard output and standard error are appended.
    """

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        self._argv, self._cwd, self._env = list(argv), cwd, dict(env)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: The program was not started: a bug.
        """
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """Exit status; None before the start and while the program runs."""
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, stdin: bytes | None = None) -> None:
        """Start the program; `stdin` is written to its standard input, which is then closed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *self._argv),
                stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )
        if stdin is not None and self._process.stdin is not None:
            self._process.stdin.write(stdin)
            with suppress(BrokenPipeError, ConnectionResetError):  # it ended early; its exit status reports that
                await self._process.stdin.drain()
            self._process.stdin.close()

    async def wait(self) -> int:
        """Wait for the end of the program; its exit status."""
        return await self._started().wait()

    async def wait_for_success(self, timeout_s: float) -> None:
        """Wait until the program has ended with status 0.

        Raises:
            ChildFailed: Another status, or the timeout.
        """
        try:
            async with asyncio.timeout(timeout_s):
                status = await self.wait()
        except TimeoutError:
            msg = f"{self.name} did not end within {timeout_s:g} s; see {self.log}"
            raise ChildFailed(msg) from None
        if status != 0:
            msg = f"{self.name} ended with status {status}; see {self.log}"
            raise ChildFailed(msg)

    async def wait_until(self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
        """Call `ready` repeatedly until it returns true, as long as the program runs.

        Raises:
            ChildFailed: The program ended first, or the timeout.
        """
        deadline = time.monotonic() + timeout_s
        while not await ready():
            self.check_running()
            if time.monotonic() > deadline:
                msg = f"{self.name} was not ready within {timeout_s:g} s; see {self.log}"
                raise ChildFailed(msg)
            await asyncio.sleep(0.1)

    def check_running(self) -> None:
        """Check that the program, which is not ready yet, still runs.

        Raises:
            ChildFailed: It has ended.
        """
        if not self.running:
            msg = f"{self.name} ended with status {self.returncode} before it was ready; see {self.log}"
            raise ChildFailed(msg)

    async def stop(self, *, grace_s: float = 10) -> None:
        """Stop the program: SIGTERM, a grace period, SIGKILL; then kill everything that it started and left behind."""
        if self._process is None:
            return
        family: dict[int, ProcessEntry] = process_family(self.pid)
        if self.running:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                family |= process_family(self.pid)
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        await kill_processes({**family, **process_family(self.pid)})

    async def kill(self) -> None:
        """Send SIGKILL to the program alone, as in a crash; everything that it started stays."""
        if self._process is not None and self.running:
            self._process.kill()
            await self._process.wait()

    async def crash(self) -> None:
        """Send SIGKILL to the program and everything that it started, as if its container was killed."""
        if self._process is not None and self.running:
            await kill_processes(process_family(self.pid))
            await self._process.wait()

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            msg = f"{self.name} was not started"
            raise RuntimeError(msg)
        return self._process


async def stop_all(children: Iterable[Child], *, grace_s: float = 10) -> None:
    """Stop several children at the same time. The error of a failed stop is raised after the others have completed."""
    outcomes = await asyncio.gather(*(child.stop(grace_s=grace_s) for child in children), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
