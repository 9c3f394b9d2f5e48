"""The agent's client of the task host: keeps a host alive, has it start jobs, and waits for their ends.

The host's messages are hints. The lock of a job shows whether it runs, and its result file how it ended, so neither the
agent's death nor the host's ends a task or loses its outcome.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.connection import ANSWER_S, HostConnection, HostDied
from edge_worker.host_client.connector import READY_S, HostConnector
from edge_worker.host_client.job_end import JobEnds, JobResult, was_claimed
from edge_worker.host_client.launcher import HostSetup
from edge_worker.task_host import job_files

DEFAULT_LOG_MAX_BYTES = 64 * 1024 * 1024

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CALM_S = 60.0

_log = logging.getLogger(__name__)


class LaunchError(Exception):
    """The job was not started and will not be; none of its processes runs here.

    Attributes:
        releases: Another worker could start the job, or this one at another time.
    """

    def __init__(self, reason: str, *, releases: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.releases = releases


class TaskHost:
    """One task host with its jobs.

    Args:
        runtime_python: The interpreter that has Airflow.
        runtime_dir: For sockets: a short path that only the worker's user can enter.
        state_dir: Contains Airflow's home, bundle tracking and the host's log.
        gateway_socket: The Unix socket of the agent's local gateway.
        env: The environment of user code. Nothing else of the agent's environment reaches it.
        bundles: The local folder of each DAG bundle, by the bundle's name.
        hostname: What Airflow sees as the hostname of its tasks: worker and site.
        log_max_bytes: The most that the log of one job takes on disk.
    """

    def __init__(
        self,
        *,
        runtime_python: Path,
        runtime_dir: Path,
        state_dir: Path,
        gateway_socket: Path,
        env: Mapping[str, str],
        bundles: Mapping[str, str],
        hostname: str,
        log_max_bytes: int = DEFAULT_LOG_MAX_BYTES,
    ) -> None:
        self._setup = HostSetup(runtime_python, runtime_dir, state_dir, gateway_socket, env, bundles, hostname)
        self._connector = HostConnector(self._setup)
        self._log_max_bytes = log_max_bytes
        self._connection: HostConnection | None = None
        self._broken: str | None = None
        self._decided = asyncio.Event()
        self._ends = JobEnds()

    async def run_forever(self) -> None:
        """Keeps a host alive until cancelled; then the host accepts nothing more and ends after its last job."""
        pause, warned = _FIRST_PAUSE_S, None
        while True:
            started = asyncio.get_running_loop().time()
            self._connector.reap()
            try:
                await self._serve()
            except (HostDied, OSError, ValueError) as error:
                is_connected = self._connection is not None
                self._broken = None if is_connected else f"the task host cannot be started: {error}"
                # A machine without Airflow has the same reason for ever.
                level = logging.DEBUG if str(error) == warned else logging.WARNING
                warned = str(error)
                _log.log(level, "task_host_lost", extra={"reason": warned})
            if self._broken:
                self._decided.set()
            self._connection = None
            if asyncio.get_running_loop().time() - started >= _CALM_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def versions(self) -> str | None:
        """The Airflow version of the runtime; None while no host is ready."""
        return self._connection.airflow if self._connection is not None else None

    async def launch(self, job: Job, job_dir: Path, code: Path | None = None, packages: Path | None = None) -> None:
        """Starts a job. On return its process exists and holds the job's lock.

        Args:
            job: What to run.
            job_dir: An existing folder for this job only; `wait` and the shutdown stages find everything there.
            code: The folder with the published version of the bundle that the job names; None for the folder that the
                owner has configured.
            packages: The virtual environment with the packages that the code requires.

        Raises:
            LaunchError: The job does not run here and never will in this folder.
        """
        connection = await self._ready()
        request = {
            "op": "run",
            "job": _request_of(job),
            "dir": str(job_dir),
            "code": None if code is None else str(code),
            "packages": None if packages is None else str(packages),
            "log_max_bytes": self._log_max_bytes,
        }
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await connection.ask(request)
        except (HostDied, TimeoutError):
            # The job's process may exist or be about to start: the first to make `pid.json` decides.
            if job_files.claim(job_dir, job_files.no_process(job.id)) or not was_claimed(job_dir):
                # In both cases none of its processes runs here, and the job is not the cause.
                raise LaunchError("the task host did not answer", releases=True) from None
            return
        if not answer["ok"]:
            raise LaunchError(answer["reason"], releases=answer.get("releases", False))

    async def wait(self, job_dir: Path, on_exit: Callable[[], None] = lambda: None) -> JobResult:
        """How a job ended, once it has ended; see `JobEnds.wait`."""
        return await self._ends.wait(job_dir, on_exit)

    async def _ready(self) -> HostConnection:
        try:
            async with asyncio.timeout(READY_S):
                await self._decided.wait()
        except TimeoutError:
            raise LaunchError(f"the task host was not ready within {READY_S:.0f} s") from None
        if self._connection is None:
            raise LaunchError(self._broken or "the task host is restarting", releases=self._broken is None)
        return self._connection

    async def _serve(self) -> None:
        """Connects to a host and listens to it until it dies."""
        connection = await self._connector.connect()
        self._connection, self._broken = connection, None
        self._decided.set()
        _log.info("task_host_ready", extra={"airflow": connection.airflow, "host_pid": connection.pid})
        try:
            await connection.listen(self._ends.report)
        except asyncio.CancelledError:
            connection.send({"op": "retire"})
            raise
        finally:
            self._decided.clear()
            connection.close()
        raise HostDied("it closed the connection")


def _request_of(job: Job) -> dict[str, object]:
    """What the job's process needs to know; it has neither the wire's models nor pydantic's."""
    work = job.airflow_work
    if work is None:
        raise LaunchError(f"a task host runs no job of kind {job.kind}")
    return {
        "id": job.id,
        "workload": work.workload,
        "core_executor": work.core_executor,
        "offline": {"tolerance_s": job.offline.tolerance_s, "fence_after_s": job.offline.fence_after_s},
    }
