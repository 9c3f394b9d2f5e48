"""Children of this process: started, waited for, stopped with everything they started themselves."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from local.processes import die_with_parent as leash
from local.processes.process_table import Seen, family, kill

# Foreign module paths and a missing bytecode cache change what is tested or make it several times slower.
_NOT_INHERITED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV")
_OURS = ("AIRFLOW_", "_AIRFLOW_", "BRIDGE_", "EDGE_WORKER_", "NATS_", "RELAY_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class ChildFailed(Exception):
    """A child ended, or did not become ready in time. The text names its log."""


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of ours, proxies and Python switches, and with `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith(_OURS) and name.lower() not in _PROXIES
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(extra or {})


class Child:
    """One program in a session of its own, with its output in a file.

    Attributes:
        name: What it is called in messages.
        log: Its standard output and errors, appended.
        pid: Once started.
    """

    def __init__(self, name: str, argv: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        self._argv, self._cwd, self._env = list(argv), cwd, dict(env)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: It was not started: a bug.
        """
        if self._process is None:
            msg = f"{self.name} was not started"
            raise RuntimeError(msg)
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, None while it runs or before it was started."""
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self, stdin: bytes | None = None) -> None:
        """Start it; `stdin` is written to its standard input, which is then closed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self._argv),
                stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )
        if stdin is not None and self._process.stdin is not None:
            self._process.stdin.write(stdin)
            with suppress(BrokenPipeError, ConnectionResetError):  # it ended early: its exit status says so
                await self._process.stdin.drain()
            self._process.stdin.close()

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self._process is None:
            msg = f"{self.name} was not started"
            raise RuntimeError(msg)
        return await self._process.wait()

    async def succeed(self, timeout_s: float) -> None:
        """Wait until it has ended with status 0.

        Raises:
            ChildFailed: Another status, or the time is over.
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

    async def until(self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
        """Wait until `ready` answers true; asked again and again while the child runs.

        Raises:
            ChildFailed: It ended first, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not await ready():
            if not self.running:
                msg = f"{self.name} ended with status {self.returncode} before it was ready; see {self.log}"
                raise ChildFailed(msg)
            if time.monotonic() > deadline:
                msg = f"{self.name} was not ready within {timeout_s:g} s; see {self.log}"
                raise ChildFailed(msg)
            await asyncio.sleep(0.1)

    async def stop(self, *, grace_s: float = 10) -> None:
        """SIGTERM, a grace, SIGKILL; then whatever it started and left behind. Returns when all have gone."""
        if self._process is None:
            return
        seen: dict[int, Seen] = family(self.pid)
        if self.running:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
            except TimeoutError:
                seen |= family(self.pid)
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        await kill({**seen, **family(self.pid)})

    async def kill(self) -> None:
        """Take it away at once, as a crash would; what it started stays."""
        if self._process is not None and self.running:
            self._process.kill()
            await self._process.wait()

    async def crash(self) -> None:
        """Take it away at once with all that it started, as when its container is killed. `start` begins anew."""
        if self._process is not None and self.running:
            await kill(family(self.pid))
            await self._process.wait()


async def stop_all(children: Iterable[Child], *, grace_s: float = 10) -> None:
    """Stop several at the same time; one that cannot be stopped does not keep the others."""
    outcomes = await asyncio.gather(*(child.stop(grace_s=grace_s) for child in children), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
