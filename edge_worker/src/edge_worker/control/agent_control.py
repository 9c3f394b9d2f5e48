"""The agent's side of the control socket: tells what it does, and does what the machine's owner wants."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge_schemas.wire.jobs import Job
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import Enrollment
from edge_worker.bundles.provider import FetchStatus
from edge_worker.control.control_socket import ControlSocket
from edge_worker.control.own_pause import OwnIntake
from edge_worker.control.protocol import (
    POINTER,
    AgentStatus,
    BundleFetch,
    ControlReply,
    ControlRequest,
    JobStatus,
    OwnPause,
)
from edge_worker.files import write_atomically
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.registry import JobRegistry
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import Proxy
from edge_worker.state.ended_jobs import size_on_disk
from edge_worker.state.state import StateDir


@dataclass(frozen=True)
class AgentFacts:
    """What does not change while the agent runs.

    Attributes:
        relay: The address that is used.
    """

    relay: str
    proxy: Proxy | None
    incarnation: int
    spool_max_bytes: int
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class AgentControl:
    """Answers the machine's owner.

    Attributes:
        enrollment: Returns the identity with the settings that apply now.
        drain: Begins a drain; gets the reason for the log.
        stop: Stops the jobs, then the agent.
        stage: Returns how far a shutdown has gone.
        fetches: Returns the versions of bundles that are being fetched.
    """

    facts: AgentFacts
    state: StateDir
    table: JobRegistry
    link: Link
    intake: OwnIntake
    enrollment: Callable[[], Enrollment]
    health: Callable[[], WorkerHealth]
    versions: Callable[[], WorkerVersions]
    drain: Callable[[str], None]
    stop: Callable[[str], None]
    stage: Callable[[], str]
    fetches: Callable[[], Sequence[FetchStatus]]
    _measuring: asyncio.Lock = field(default_factory=asyncio.Lock)

    def socket(self, path: Path) -> ControlSocket:
        """The socket, once the state folder names it.

        Raises:
            OSError: The state folder cannot be written.
        """
        write_atomically(self.state.path / POINTER, str(path).encode(), durable=False)
        return ControlSocket(path, self.handle)

    async def handle(self, request: ControlRequest, user: str) -> ControlReply:
        """Does what is asked, and tells how the agent is afterwards.

        Raises:
            OSError: A pause cannot be kept or removed; nothing has changed.
        """
        match request.do:
            case "pause":
                self.intake.begin(OwnPause(reason=request.reason, since=datetime.now(UTC), by=user))
            case "resume":
                self.intake.end(user)
            case "drain":
                self.drain(f"'edge-worker drain' by {user}")
            case "stop":
                self.stop(f"'edge-worker stop' by {user}")
            case "status":
                pass
        # One at a time: it walks through the folders of all ended jobs.
        async with self._measuring:
            used = await asyncio.to_thread(_ended_bytes, self.state.path)
        return ControlReply(status=self.status(used))

    def status(self, ended_jobs_bytes: int) -> AgentStatus:
        """How the agent is now."""
        enrollment = self.enrollment()
        settings, proxy = enrollment.settings, self.facts.proxy
        answered = self.link.answered_before
        return AgentStatus(
            worker=enrollment.worker,
            site=enrollment.site,
            team=enrollment.team,
            queues=settings.queues,
            pid=os.getpid(),
            began_at=self.facts.began_at,
            incarnation=self.facts.incarnation,
            state_dir=str(self.state.path),
            relay=self.facts.relay,
            proxy=None if proxy is None else f"{proxy.url} ({proxy.source})",
            link="lost" if not self.link.is_up else "up" if answered else "untried",
            link_since=_moment(time.time() - self.link.unchanged_s),
            last_answer_at=_moment(time.time() - self.link.silence_s) if answered else None,
            slots=self.table.slots,
            free=self.table.free,
            refusal=self.table.refusal(),
            wanted=settings.availability,
            wanted_reason=settings.availability_reason,
            wanted_until=settings.availability_until,
            own_pause=self.intake.pause,
            stage=self.stage(),
            settings_version=settings.version,
            jobs=tuple(_job(driver) for driver in self.table),
            fetches=tuple(BundleFetch(**asdict(fetch)) for fetch in self.fetches()),
            health=self.health(),
            versions=self.versions(),
            ended_jobs_bytes=ended_jobs_bytes,
            spool_max_bytes=self.facts.spool_max_bytes,
        )


def task_of(job: Job) -> str:
    """What a job runs, for people."""
    if (task := job.task) is not None:
        index = "" if task.map_index < 0 else f" [{task.map_index}]"
        return f"{task.dag_id}.{task.task_id}{index}, run {task.run_id}, try {task.try_number}"
    if job.terms is not None:
        return f"{job.kind.value} {job.terms.name}"
    return "-" if job.auxiliary is None else f"{job.auxiliary.kind.value} {job.auxiliary.id}"


def _job(driver: JobDriver) -> JobStatus:
    started, frozen = driver.dir.started_at(), driver.dir.frozen_at()
    return JobStatus(
        job=driver.id,
        phase=driver.phase,
        queue=driver.job.queue,
        task=task_of(driver.job),
        since=None if started is None else _moment(started),
        frozen_since=None if frozen is None else _moment(frozen),
        log=str(driver.dir.log),
    )


def _ended_bytes(state_dir: Path) -> int:
    return size_on_disk(state_dir / "ended")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
