"""The Airflow runtime: does its interpreter start, has it the right Airflow, does a task host come up in it?

The host that is started here is one of its own, with folders of its own, and ends when it has said hello: the agent's
goes on undisturbed.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.life.versions import runtime_fault
from edge_service.findings import Check, Finding, failed, ok, warning
from edge_worker.doctor.limits import WHOLE_S, Deadline
from edge_worker.host_client.connector import READY_S
from edge_worker.host_client.launcher import HostChild, HostSetup, last_log_line, start_host
from edge_worker.settings import Settings, task_environment

PYTHON, AIRFLOW, HOST = "runtime.python", "runtime.airflow", "runtime.host"
_START_S = 10.0
_HOST_S = 20.0
_LOOK_EVERY_S = 0.1
_GET_ONE = "`edge-worker runtime install` makes one; --runtime-python names the one to use."
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
    """What an interpreter has.

    Attributes:
        error: Why it cannot be used at all.
    """

    python: str = ""
    airflow: str | None = None
    task_sdk: str | None = None
    error: str = ""


class RuntimeLooks:
    """Looks at the runtime, beside everything else: a task host needs seconds to import Airflow."""

    def __init__(self, settings: Settings, folder: Path, facts: Callable[[], WorkerFacts | None]) -> None:
        self._path = settings.runtime_python
        self._setup = HostSetup(
            runtime_python=settings.runtime_python,
            runtime_dir=folder,
            state_dir=folder,
            gateway_socket=folder / "none",
            env=task_environment(settings),
            bundles={bundle: str(path) for bundle, path in settings.bundles.items()},
            worker="doctor",
        )
        self._facts = facts
        self._installed = asyncio.create_task(self._look_inside())
        self._host = asyncio.create_task(self._try_host())

    def checks(self, deadline: Deadline) -> list[Check]:
        """Of the interpreter, of its Airflow, of a host in it."""
        busy = "Is this machine very busy, or the runtime on a slow disk?"
        return [
            deadline.check(PYTHON, self.python, limit_s=_START_S, when_late=busy),
            deadline.check(AIRFLOW, self.airflow, needs=(PYTHON,), limit_s=1, when_late=busy),
            deadline.check(HOST, self.host, needs=(AIRFLOW,), limit_s=WHOLE_S, when_late=busy),
        ]

    async def close(self) -> None:
        """Ends what still runs of it."""
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
            lacking = "no Airflow" if found.airflow is None else "Airflow without its Task SDK (Airflow 3 is needed)"
            return failed(AIRFLOW, f"{self._path} has {lacking}, so no task can run here", _GET_ONE)
        facts = self._facts()
        if facts is None or facts.centre is None:
            why = "no keeper answered it" if facts else "the relay did not tell"
            return ok(AIRFLOW, f"Airflow {found.airflow}; not compared with the centre's: {why}")
        return compared(found.airflow, facts.centre.airflow_version)

    async def host(self) -> Finding:
        """Whether a task host comes up."""
        return await asyncio.shield(self._host)

    async def _look_inside(self) -> _Installed:
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
            told = json.loads(out.decode().strip().splitlines()[-1])
            return _Installed(
                told["python"],
                told["apache-airflow-core"] or told["apache-airflow"],
                told["apache-airflow-task-sdk"],
            )
        except (ValueError, LookupError, TypeError):
            said = (err.decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:300]
            return _Installed(error=f"it is no Python that works (status {process.returncode}): {said}")

    async def _try_host(self) -> Finding:
        found = await asyncio.shield(self._installed)
        if found.error or found.airflow is None:
            return failed(HOST, "there is nothing to start it in", _GET_ONE)
        socket = self._setup.socket()
        child = start_host(self._setup, socket)
        try:
            async with asyncio.timeout(_HOST_S):
                return await self._until_hello(child, socket)
        except TimeoutError:
            detail = f"a task host was not ready within {_HOST_S:.0f} s; the agent waits up to {READY_S:.0f} s"
            return warning(HOST, detail, "Importing Airflow is slow here: a busy machine, a slow disk, no bytecode?")
        finally:
            await _end(child)

    async def _until_hello(self, child: HostChild, socket: Path) -> Finding:
        while (status := child.status()) is None:
            with contextlib.suppress(OSError, ValueError, LookupError):
                version = await _hello(socket)
                return ok(HOST, f"a task host comes up in it, with Airflow {version}")
            await asyncio.sleep(_LOOK_EVERY_S)
        said = last_log_line(self._setup.state_dir) or f"it ended with status {status}"
        advice = "Mend what it says, or make the runtime anew (`edge-worker runtime install`)."
        return failed(HOST, f"a task host cannot be started in it: {said}", advice)


def compared(airflow: str, centre: str) -> Finding:
    """A runtime's Airflow against the centre's."""
    if fault := runtime_fault(airflow, centre):
        why, _, advice = fault.partition(". ")
        return failed(AIRFLOW, why, advice)
    return ok(AIRFLOW, f"Airflow {airflow}, the centre has {centre}")


async def _hello(socket: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(b'{"op": "hello"}\n')
        return str(json.loads(await reader.readline())["airflow"])
    finally:
        writer.close()


async def _end(child: HostChild) -> None:
    """It has no job, so it ends at once; its folder is about to be removed."""
    child.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while child.status() is None:  # noqa: ASYNC110 - the host is nobody's child process to asyncio
                await asyncio.sleep(_LOOK_EVERY_S / 2)
            return
    child.kill()


def short_folder() -> tempfile.TemporaryDirectory[str]:
    """For the trial host: with a path that leaves room for a socket's name."""
    return tempfile.TemporaryDirectory(prefix="ewd-", ignore_cleanup_errors=True)
