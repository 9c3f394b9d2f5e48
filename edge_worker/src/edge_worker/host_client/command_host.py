"""The agent's side of a command's supervisor: starts one for each command, and learns of its end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_schemas.wire.jobs import CommandWork, Job
from edge_worker.command_host.request import ALIVE, CommandRequest
from edge_worker.host_client.client import LaunchError
from edge_worker.host_client.job_end import JobEnds, JobResult, was_claimed
from edge_worker.log import EventLog
from edge_worker.task_host import job_files

ANSWER_S = 30.0
_MAX_ANSWER_BYTES = 64 * 1024
_SIGNALS_RESET = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)

log = EventLog("edge_worker.host_client.command_host")

FindProgram = Callable[[str], str | None]
"""What is executed for a program that a command names; None if it is not allowed."""


@dataclass
class CommandHost:
    """Runs commands, each under a supervisor that outlives the agent.

    Attributes:
        env: The environment of commands; nothing else of the agent's environment reaches them.
        names: Variables that tell a command where it runs.
        find: Looks a program up.
        gateway_socket: The Unix socket of the agent's local gateway.
        log_max_bytes: The most that the log of one job takes on disk.
    """

    env: Mapping[str, str]
    names: Mapping[str, str]
    find: FindProgram
    gateway_socket: Path
    log_max_bytes: int
    _ends: JobEnds = field(default_factory=JobEnds)
    _watches: set[asyncio.Task[None]] = field(default_factory=set)

    async def launch(
        self,
        job: Job,
        job_dir: Path,
        code: Path | None = None,  # noqa: ARG002 - a command names no code
        packages: Path | None = None,  # noqa: ARG002 - nor packages
    ) -> None:
        """Starts a command. On return its supervisor exists and holds the job's lock.

        Raises:
            LaunchError: The command does not run here and never will in this folder.
        """
        work = job.work
        if not isinstance(work, CommandWork):
            raise LaunchError(f"this is no command but a {job.kind}")
        # Looked up here, by the owner's PATH: the supervisor reports a missing program in the job's log.
        program = self.find(work.argv[0])
        if program is None:  # it was allowed a moment ago
            raise LaunchError(f"this worker does not run {work.argv[0]!r}")
        request = self._request(job, work, program, job_dir)
        try:
            supervisor = _spawn(request, job_dir)
        except OSError as error:
            raise LaunchError(f"no process can be started: {error.strerror}", releases=True) from None
        self._watch(supervisor, job_dir)
        answer = await supervisor.answer()
        if answer is None:
            # It may be about to start: the first to make `pid.json` decides.
            if job_files.claim(job_dir, job_files.no_process(job.id)) or not was_claimed(job_dir):
                raise LaunchError("the command's supervisor did not answer", releases=True)
        elif not answer["ok"]:
            raise LaunchError(str(answer["reason"]), releases=bool(answer.get("releases")))

    async def wait(self, job_dir: Path, on_exit: Callable[[], None] = lambda: None) -> JobResult:
        """How a command ended, once it has ended; see `JobEnds.wait`."""
        return await self._ends.wait(job_dir, on_exit)

    def _request(self, job: Job, work: CommandWork, program: str, job_dir: Path) -> CommandRequest:
        about = {"EDGE_RELAY_QUEUE": job.queue, "EDGE_RELAY_ATTEMPT": str(job.attempt)}
        return CommandRequest(
            job=job.id,
            dir=str(job_dir),
            program=program,
            argv=list(work.argv),
            env={**self.env, **work.env, **self.names, **about},
            cwd=work.cwd,
            timeout_s=work.timeout_s,
            offline={"tolerance_s": job.offline.tolerance_s, "fence_after_s": job.offline.fence_after_s},
            gateway_socket=str(self.gateway_socket),
            log_max_bytes=self.log_max_bytes,
        )

    def _watch(self, supervisor: "_Supervisor", job_dir: Path) -> None:
        async def watch() -> None:
            await supervisor.until_gone()
            self._ends.report(str(job_dir))

        task = asyncio.get_running_loop().create_task(watch(), name="command-supervisor")
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)


class _Supervisor:
    """A process that was started for one command.

    Args:
        ready: Where its answer arrives.
        alive: Closed at its end.
    """

    def __init__(self, pid: int, ready: int, alive: int) -> None:
        self._pid = pid
        self._ready = ready
        self._alive = alive

    async def answer(self) -> dict[str, object] | None:
        """Whether it runs the command; None if it did not say so in time."""
        try:
            async with asyncio.timeout(ANSWER_S):
                text = await _read_all(self._ready)
            answer = json.loads(text)
        except (TimeoutError, ValueError):
            return None
        return answer if isinstance(answer, dict) and "ok" in answer else None

    async def until_gone(self) -> None:
        """Returns when it has ended, and removes it from the process table."""
        await _read_all(self._alive)
        with contextlib.suppress(ChildProcessError):  # the agent was started with SIGCHLD ignored
            await asyncio.to_thread(os.waitpid, self._pid, 0)


async def _read_all(descriptor: int) -> bytes:
    """Reads a pipe to its end, and closes it."""
    reader = asyncio.StreamReader(limit=_MAX_ANSWER_BYTES)
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            return await reader.read()
        finally:
            transport.close()


def _spawn(request: CommandRequest, job_dir: Path) -> _Supervisor:
    """Starts a supervisor that is tied to no object of the agent, and gets its request by a file without a name.

    Raises:
        OSError: No process can be started.
    """
    ready, ready_writer = os.pipe()
    alive, alive_writer = os.pipe()
    own = [ready_writer, alive_writer]
    try:
        errors = os.open(
            job_dir / job_files.SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        own.append(errors)
        with tempfile.TemporaryFile(dir=job_dir) as fields:
            fields.write(json.dumps(asdict(request)).encode())
            fields.seek(0)
            # No target is a source of a later one: each source is above the targets.
            sources = [
                os.dup(one) if one <= ALIVE else one for one in (fields.fileno(), ready_writer, errors, alive_writer)
            ]
            own += [one for one in sources if one not in {fields.fileno(), *own}]
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-m", "edge_worker.command_host"],
                {"PATH": os.defpath},
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(sources)],
                setsigdef=_SIGNALS_RESET,
            )
    except OSError:
        os.close(ready)
        os.close(alive)
        raise
    finally:
        for descriptor in own:
            os.close(descriptor)
    return _Supervisor(pid, ready, alive)
