"""The Airflow runtime: does its interpreter start, has it the right Airflow, does a task host start in it?

The host that is started here has folders of its own, and ends after its greeting. The agent's host is not affected.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.life.versions import runtime_mismatch
from edge_service.findings import Check, Finding, failed, ok, warning
from edge_worker.doctor.limits import TOTAL_S, Deadline
from edge_worker.environment import task_environment
from edge_worker.host_client.connection import HostConnection, HostDied
from edge_worker.host_client.connector import READY_S
from edge_worker.host_client.launcher import HostChild, HostSetup, last_log_line, start_host
from edge_worker.settings import Settings

PYTHON, AIRFLOW, HOST = "runtime.python", "runtime.airflow", "runtime.host"
_START_S = 10.0
_HOST_S = 20.0
_CHECK_EVERY_S = 0.1
_GET_ONE = "`edge-worker runtime install` makes one; --runtime-python selects the one to use."
_ASK = """
import json, platform
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
names = ("apache-airflow-core", "apache-airflow", "apache-airflow-task-sdk")
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in names}}))
"""


@dataclass(frozen=True)
class _Installed:
    """The versions in an interpreter.

    Attributes:
        error: Why the interpreter cannot be used at all.
    """

    python: str = ""
    airflow: str | None = None
    task_sdk: str | None = None
    error: str = ""


class RuntimeChecks:
    """Checks the runtime in parallel with all other checks: a task host needs seconds to import Airflow."""

    def __init__(self, settings: Settings, folder: Path, facts: Callable[[], WorkerFacts | None]) -> None:
        self._path = settings.runtime_python
        # Without a runtime, a worker that runs commands is of use.
        self._without = warning if settings.commands else failed
        self._setup = HostSetup(
            runtime_python=settings.runtime_python,
            runtime_dir=folder,
            state_dir=folder,
            gateway_socket=folder / "none",
            env=task_environment(settings),
            bundles={bundle: str(path) for bundle, path in settings.bundles.items()},
            hostname="doctor",
        )
        self._facts = facts
        self._installed = asyncio.create_task(self._read_versions())
        self._host = asyncio.create_task(self._try_host())

    def checks(self, deadline: Deadline) -> list[Check]:
        """The checks of the interpreter, of its Airflow, and of a host in it."""
        busy = "Is this machine very busy, or the runtime on a slow disk?"
        return [
            deadline.check(PYTHON, self.python, limit_s=_START_S, when_late=busy),
            deadline.check(AIRFLOW, self.airflow, needs=(PYTHON,), limit_s=1, when_late=busy),
            deadline.check(HOST, self.host, needs=(AIRFLOW,), limit_s=TOTAL_S, when_late=busy),
        ]

    async def close(self) -> None:
        """Cancels what still runs."""
        for task in (self._installed, self._host):
            task.cancel()
        await asyncio.gather(self._installed, self._host, return_exceptions=True)

    async def python(self) -> Finding:
        """Whether the interpreter starts."""
        found = await asyncio.shield(self._installed)
        if found.error:
            return failed(PYTHON, f"{self._path}: {found.error}", _GET_ONE)
        return ok(PYTHON, f"{self._path} is Python {found.python}")

    async def airflow(self) -> Finding:
        """Which Airflow it has."""
        found = await asyncio.shield(self._installed)
        if found.airflow is None or found.task_sdk is None:
            lacking = "no Airflow" if found.airflow is None else "Airflow without its Task SDK (Airflow 3 is required)"
            return self._without(AIRFLOW, f"{self._path} has {lacking}, so no task can run here", _GET_ONE)
        facts = self._facts()
        if facts is None or facts.centre is None:
            why = "no keeper answered the relay" if facts else "the relay did not provide it"
            return ok(AIRFLOW, f"Airflow {found.airflow}; not compared with the centre's: {why}")
        return compare(found.airflow, facts.centre.airflow_version)

    async def host(self) -> Finding:
        """Whether a task host starts."""
        return await asyncio.shield(self._host)

    async def _read_versions(self) -> _Installed:
        try:
            process = await asyncio.create_subprocess_exec(
                self._path,
                "-c",
                _ASK,
                env=self._setup.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return _Installed(error=error.strerror or str(error))
        try:
            async with asyncio.timeout(_START_S):
                out, err = await process.communicate()
        except TimeoutError:
            return _Installed(error=f"it did not answer within {_START_S:.0f} s")
        finally:
            if process.returncode is None:
                process.kill()
        try:
            versions = json.loads(out.decode().strip().splitlines()[-1])
            return _Installed(
                versions["python"],
                versions["apache-airflow-core"] or versions["apache-airflow"],
                versions["apache-airflow-task-sdk"],
            )
        except (ValueError, LookupError, TypeError):
            last_line = (err.decode(errors="replace").strip().splitlines() or ["no output"])[-1][:300]
            return _Installed(error=f"it is not a working Python (status {process.returncode}): {last_line}")

    async def _try_host(self) -> Finding:
        found = await asyncio.shield(self._installed)
        if found.error or found.airflow is None:
            return self._without(HOST, "there is no runtime to start it in", _GET_ONE)
        socket = self._setup.socket()
        child = start_host(self._setup, socket)
        try:
            async with asyncio.timeout(_HOST_S):
                return await self._until_greeting(child, socket)
        except TimeoutError:
            detail = f"a task host was not ready within {_HOST_S:.0f} s; the agent waits up to {READY_S:.0f} s"
            return warning(HOST, detail, "Importing Airflow is slow here: a busy machine, a slow disk, no bytecode?")
        finally:
            await _end(child)

    async def _until_greeting(self, child: HostChild, socket: Path) -> Finding:
        while (status := child.status()) is None:
            with contextlib.suppress(OSError, HostDied):
                connection = await HostConnection.open(socket)
                connection.close()
                return ok(HOST, f"a task host starts in it, with Airflow {connection.airflow}")
            await asyncio.sleep(_CHECK_EVERY_S)
        reason = last_log_line(self._setup.state_dir) or f"it ended with status {status}"
        advice = "Correct the cause, or install the runtime again (`edge-worker runtime install`)."
        return failed(HOST, f"a task host cannot be started in it: {reason}", advice)


def compare(airflow: str, centre: str) -> Finding:
    """Whether a runtime's Airflow suits the centre's."""
    if fault := runtime_mismatch(airflow, centre):
        why, _, advice = fault.partition(". ")
        return failed(AIRFLOW, why, advice)
    return ok(AIRFLOW, f"Airflow {airflow}, the centre has {centre}")


async def _end(child: HostChild) -> None:
    """Ends a host. It has no job, so it ends at once; its folder is about to be removed."""
    child.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while child.status() is None:  # noqa: ASYNC110 - asyncio does not know this child process
                await asyncio.sleep(_CHECK_EVERY_S / 2)
            return
    child.kill()


def short_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for the trial host, with a path that leaves room for a socket's name."""
    return tempfile.TemporaryDirectory(prefix="ewd-", ignore_cleanup_errors=True)
