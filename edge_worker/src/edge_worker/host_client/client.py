"""The agent's end of the task host: keeps one alive, has it start jobs, tells how they ended.

What the host says over its socket is a hint. Whether a job runs is told by its lock, how it ended by its result file,
so neither the agent's death nor the host's ends a task or loses its outcome.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.launcher import HostChild, HostSetup, last_log_line, start_host
from edge_worker.processes.tree import has_rebooted, is_alive, stop_tree, supervisor_is_gone
from edge_worker.task_host import job_files

READY_S = 180.0
"""How long a host may take to import Airflow; a small machine with a cold disk needs a good part of it."""
ANSWER_S = 30.0
LOOK_EVERY_S = 0.5
DEFAULT_LOG_MAX_BYTES = 64 * 1024 * 1024

_CONNECT_EVERY_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CALM_S = 60.0
_ORPHANS_GRACE_S = 5.0
_ALREADY_RUNNING = 3

_log = logging.getLogger(__name__)


class LaunchFailed(Exception):
    """The job was not started and will not be; nothing of it runs here.

    Attributes:
        gives_back: Another worker could start it, or this one at another time.
    """

    def __init__(self, reason: str, *, gives_back: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gives_back = gives_back


class HostDied(Exception):
    """A task host ended or did not answer."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job's process ended.

    Attributes:
        exit_code: Of the user code's process, negative for a signal; None if that is not known.
        final_state: The task's state as its supervisor believes it to be. What Airflow accepted decides.
        error: Why there is no regular end, for people.
    """

    exit_code: int | None
    final_state: str | None
    error: str | None


class TaskHost:
    """One task host with its jobs.

    Args:
        runtime_python: The interpreter that has Airflow.
        runtime_dir: For sockets: a short path that only the worker's user can enter.
        state_dir: Airflow's home, bundle tracking and the host's log go below it.
        gateway_socket: The Unix socket of the agent's local gateway.
        env: The environment of user code. Nothing else of the agent's environment reaches it.
        bundles: The local folder of each DAG bundle, by the bundle's name.
        worker: The worker's name, which Airflow sees as the hostname.
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
        worker: str,
        log_max_bytes: int = DEFAULT_LOG_MAX_BYTES,
    ) -> None:
        self._setup = HostSetup(runtime_python, runtime_dir, state_dir, gateway_socket, env, bundles, worker)
        self._log_max_bytes = log_max_bytes
        self._link: _Link | None = None
        self._broken: str | None = None
        self._decided = asyncio.Event()
        self._ended: dict[str, asyncio.Event] = {}
        self._children: list[HostChild] = []

    async def run_forever(self) -> None:
        """Keep a host alive until cancelled; then it takes nothing more and ends after its last job."""
        pause = _FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            self._children = [child for child in self._children if child.status() is None]
            try:
                await self._serve()
            except (HostDied, OSError, ValueError) as error:
                self._broken = f"the task host cannot be started: {error}" if self._link is None else None
                _log.warning("task_host_lost", extra={"reason": str(error)})
            if self._broken:
                self._decided.set()
            self._link = None
            if asyncio.get_running_loop().time() - started >= _CALM_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def versions(self) -> str | None:
        """The Airflow version of the runtime; None while no host is ready."""
        return self._link.airflow if self._link is not None else None

    async def launch(self, job: Job, job_dir: Path) -> None:
        """Start a job. On return its process exists and holds the job's lock.

        Args:
            job: What to run.
            job_dir: An existing folder of its own; `wait` and the stop ladder find everything there.

        Raises:
            LaunchFailed: It does not run here and never will in this folder.
        """
        link = await self._ready_link()
        request = {"op": "run", "job": _told(job), "dir": str(job_dir), "log_max_bytes": self._log_max_bytes}
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await link.ask(request)
        except (HostDied, TimeoutError):
            # Perhaps the job's process exists, perhaps it is about to: whoever makes `pid.json` first decides.
            if job_files.take(job_dir, job_files.nobody(job.id)) or not _was_started(job_dir):
                # Either way nothing of it runs here, by no fault of the job.
                raise LaunchFailed("the task host did not answer", gives_back=True) from None
            return
        if not answer["ok"]:
            raise LaunchFailed(answer["reason"], gives_back=answer.get("gives_back", False))

    async def wait(self, job_dir: Path) -> JobResult:
        """How a job ended, once it has. Works for jobs that an earlier agent or host has started."""
        ended = self._ended.setdefault(str(job_dir), asyncio.Event())
        try:
            while is_alive(job_dir):
                if supervisor_is_gone(job_dir):
                    await self._end_orphans(job_dir)
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await ended.wait()
                    ended.clear()
        finally:
            self._ended.pop(str(job_dir), None)
        result = job_files.read_result(job_dir)
        return _end_without_result(job_dir) if result is None else JobResult(**asdict(result))

    async def _ready_link(self) -> "_Link":
        try:
            async with asyncio.timeout(READY_S):
                await self._decided.wait()
        except TimeoutError:
            raise LaunchFailed(f"the task host was not ready within {READY_S:.0f} s") from None
        if self._link is None:
            raise LaunchFailed(self._broken or "the task host is restarting", gives_back=self._broken is None)
        return self._link

    async def _serve(self) -> None:
        """Connect to a host, starting it if there is none, and listen to it until it dies."""
        socket = self._setup.socket()
        await self._retire_others(socket)
        link = await self._connect(socket)
        self._link, self._broken = link, None
        self._decided.set()
        _log.info("task_host_ready", extra={"airflow": link.airflow, "host_pid": link.pid})
        try:
            await link.listen(self._on_exited)
        except asyncio.CancelledError:
            link.say({"op": "retire"})
            raise
        finally:
            self._decided.clear()
            link.close()
        raise HostDied("it closed the connection")

    async def _connect(self, socket: Path) -> "_Link":
        with contextlib.suppress(OSError, HostDied):
            return await _Link.open(socket)
        try:
            child = start_host(self._setup, socket)
        except OSError as error:
            raise HostDied(f"{self._setup.runtime_python} (runtime_python): {error.strerror}") from None
        self._children.append(child)
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    with contextlib.suppress(OSError):
                        return await _Link.open(socket)
                    self._check_start(child)
                    await asyncio.sleep(_CONNECT_EVERY_S)
        except TimeoutError:
            child.terminate()
            raise HostDied(f"it was not ready within {READY_S:.0f} s") from None
        except asyncio.CancelledError:
            child.terminate()
            raise

    def _check_start(self, child: HostChild) -> None:
        status = child.status()
        # "Already running": another one, started by an earlier agent, is on its way to serve the same socket.
        if status not in {None, _ALREADY_RUNNING}:
            why = last_log_line(self._setup.state_dir) or f"it ended with status {status}"
            raise HostDied(f"{self._setup.runtime_python} (runtime_python): {why}")

    async def _retire_others(self, own: Path) -> None:
        """Hosts of an earlier setup end once their jobs have ended."""
        for path in self._setup.others(own):
            try:
                link = await _Link.open(path)
            except (OSError, HostDied):
                path.unlink(missing_ok=True)
                continue
            link.say({"op": "retire"})
            await link.drained()
            link.close()

    def _on_exited(self, job_dir: str) -> None:
        if event := self._ended.get(job_dir):
            event.set()

    async def _end_orphans(self, job_dir: Path) -> None:
        """User code whose supervisor was killed can report nothing any more, and nobody would end it."""
        await stop_tree(
            job_dir,
            grace_s=_ORPHANS_GRACE_S,
            on_step=lambda step: _log.warning("orphans_stopped", extra={"step": step, "job_dir": str(job_dir)}),
        )


def _told(job: Job) -> dict[str, Any]:
    """What the job's process needs to know; it has neither the wire's models nor pydantic's."""
    return {
        "id": job.id,
        "workload": job.work.workload,
        "core_executor": job.work.core_executor,
        "offline": {"tolerance_s": job.offline.tolerance_s, "fence_after_s": job.offline.fence_after_s},
    }


def _was_started(job_dir: Path) -> bool:
    taken = job_files.read_taken(job_dir)
    return taken is not None and taken.pid != 0


def _end_without_result(job_dir: Path) -> JobResult:
    """Nobody is left to say how the job ended; what is known is said here, and in the task's log."""
    if not _was_started(job_dir):
        return JobResult(None, None, "no process was ever started for this job")
    if has_rebooted(job_dir):
        reason = "the machine went down while the task ran"
    else:
        reason = "the supervisor was killed before it could report how the task ended"
    try:
        job_files.write_log_line(job_dir, f"The task has failed: {reason}")
    except OSError as error:
        _log.warning("log_line_not_written", extra={"reason": str(error)})
    return JobResult(None, None, reason)


class _Link:
    """A connection to a task host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, airflow: str, pid: int) -> None:
        self._reader = reader
        self._writer = writer
        self.airflow = airflow
        self.pid = pid
        self._next_id = 1
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._closed = False

    @classmethod
    async def open(cls, socket: Path) -> "_Link":
        """Connect and exchange greetings.

        Raises:
            OSError: Nobody listens.
            HostDied: Somebody listens and does not answer.
        """
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b'{"op": "hello"}\n')
            line = await reader.readline()
        if not line:
            writer.close()
            raise HostDied("it closed the connection")
        try:
            hello = json.loads(line)
            return cls(reader, writer, hello["airflow"], hello["pid"])
        except (ValueError, TypeError, KeyError):
            writer.close()
            raise HostDied("it speaks another language") from None

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def drained(self) -> None:
        """Wait until what was said is on its way."""
        async with asyncio.timeout(ANSWER_S):
            await self._writer.drain()

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a message and wait for its answer, for as long as `listen` runs."""
        if self._closed:
            raise HostDied("it closed the connection")
        number = self._next_id
        self._next_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self.say({"id": number, **message})
            return await answer
        finally:
            del self._asked[number]

    async def listen(self, on_exited: Any) -> None:
        """Hand out what the host says until the connection ends."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise HostDied("it speaks another language")
                if "exited" in message:
                    on_exited(message["exited"])
                elif (answer := self._asked.get(message.get("id", 0))) is not None and not answer.done():
                    answer.set_result(message)

    def close(self) -> None:
        """Close the connection; whoever waits for an answer gets `HostDied`."""
        self._closed = True
        self._writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(HostDied("it closed the connection"))
