"""The life of one job on this worker: from grant, or from what an earlier run of the agent left, to outcome."""

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import FinishRequest, ReleaseRequest, StartRequest
from edge_worker.host_client.client import LaunchFailed
from edge_worker.host_client.job_end import CHECK_EVERY_S, JobResult
from edge_worker.jobs.freezer import Freezer
from edge_worker.jobs.lease import Fence
from edge_worker.jobs.outbox import Outbox
from edge_worker.jobs.recovery import archive, discard_stale_dir
from edge_worker.jobs.registry import SHUT_DOWN, JobRegistry, LocalJob, StopWish
from edge_worker.jobs.stop import done_before, say, stop_when_wanted
from edge_worker.log import EventLog
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.processes.tree import is_alive, kill_tree
from edge_worker.relay.call_result import Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files

LOG_FIRST_S = 2.0
"""How long the rest of the log may go ahead of the outcome, so that it is complete when the job has ended."""
TELL_AFTER_S = 0.2
"""Until then the outcome is mostly accepted, and one poll can tell of the free slot and of the end of the job."""
DISK_PAUSE_S = 30.0
"""How long nothing is taken after a job could not be written down: given back, it would be granted again at once."""
START_GRACE_S = 2.0
DROPPED_LOG_S = 30.0
"""How long the log of a job that is not ours any more may still go to the relay: it says why the task ended."""

log = EventLog("edge_worker.jobs.lifecycle")


class _StoppedBefore(Exception):
    """A job was to end before anything of it was launched."""

    def __init__(self, wish: StopWish) -> None:
        super().__init__(f"stopped before it was launched: {wish.reason}")
        self.gives_back = wish.gives_back


class Host(Protocol):
    """Runs the processes of jobs; `TaskHost`."""

    async def launch(self, job: Job, job_dir: Path) -> None:
        """Starts a job; raises `LaunchFailed`."""

    async def wait(self, job_dir: Path) -> JobResult:
        """Until it has ended."""


@dataclass(frozen=True)
class JobLife:
    """What is done with a job, the same for all of them.

    Attributes:
        incarnation: Of this run of the agent.
        grace_s: Between SIGTERM and SIGKILL.
    """

    client: RelayClient
    link: Link
    state: StateDir
    table: JobRegistry
    host: Host
    uploader: LogUploader
    outbox: Outbox
    incarnation: int
    grace_s: float
    fence: Fence
    freezer: Freezer

    async def begin(self, held: LocalJob, earlier: set[asyncio.Task[object]]) -> None:
        """Runs a job of which there may be something left from an earlier hold by this worker."""
        if earlier:
            # What they still upload would be taken for the log of this hold, and they would put its folder aside.
            for task in earlier:
                task.cancel()
            await asyncio.wait(earlier)
        try:
            discard_stale_dir(self.state, held.dir)
        except OSError as error:
            await self._give_back(held, error)
        else:
            await self._run_granted(held)

    def go_on(self, held: LocalJob) -> Coroutine[Any, Any, None]:
        """What is left to do for a job, by its folder."""
        if held.dir.was_finished:
            return self._upload_rest(held)
        if (finish := held.dir.finish()) is not None:
            self.table.finishing(held)
            return self._resume_settlement(held, finish)
        if held.dir.was_launched:
            self.table.running(held)
            log.info("job_adopted", job=held.id, is_alive=is_alive(held.dir.path))
            return self._run_started(held, is_launched=True)
        if held.dir.was_started:
            self.table.running(held)
            return self._run_started(held)
        # Whether the start came through is not known; asking again is harmless and tells.
        return self._run_granted(held)

    async def give_up(self, held: LocalJob, reason: str) -> None:
        """Reports a job as failed that can't be followed, once nothing of it runs."""
        while is_alive(held.dir.path):
            if held.is_frozen or held.is_stopping:
                # Nobody else would hold it still and ask for it, or end it.
                await kill_tree(held.dir.path, on_step=partial(say, held))
            await asyncio.sleep(CHECK_EVERY_S)
        self.table.finishing(held)
        await self.outbox.deliver(held, FinishRequest(reason=_short(reason)))
        self.table.forget(held)
        archive(self.state, held.dir)

    async def release(self, job: str, receipt: str, reason: str) -> str | None:
        """Gives a granted job back that was not started; the code with which that was refused, if it was."""
        request = ReleaseRequest(receipt=receipt, reason=reason[:500], counted=False)
        log.info("job_released", job=job, reason=reason)
        try:
            await until_final(lambda: self.client.release(job, request), pause=self.link.pause)
        except Refused as error:
            log.info("release_refused", job=job, code=error.code)
            return error.code
        return None

    async def _run_granted(self, held: LocalJob) -> None:
        try:
            held.dir.create(held.job, held.receipt)
        except OSError as error:
            await self._give_back(held, error)
            return
        try:
            is_started = await self._start_unless_leaving(held)
        except Refused as error:
            log.warning("start_refused", code=error.code, reason=str(error))
            self.table.forget(held)
            archive(self.state, held.dir)
            return
        if not is_started:
            await self._hand_back(held)
            return
        self.table.running(held)
        try:
            held.dir.mark_started()
        except OSError as error:
            log.warning("start_not_marked", error=str(error))
        await self._run_started(held)

    async def _start(self, held: LocalJob) -> None:
        await self.client.start(held.id, StartRequest(receipt=held.receipt, incarnation=self.incarnation))

    async def _start_unless_leaving(self, held: LocalJob) -> bool:
        """Whether the start was confirmed; not, if the worker is to leave first.

        Raises:
            Refused: For good.
        """
        starting = asyncio.create_task(until_final(lambda: self._start(held), pause=self.link.pause))
        leaving = asyncio.create_task(held.stop_wanted.wait())
        try:
            await asyncio.wait({starting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            # One that is under way must not overtake the release that would follow.
            await asyncio.wait({starting}, timeout=START_GRACE_S)
            if starting.done():
                starting.result()
            return starting.done()
        finally:
            starting.cancel()
            leaving.cancel()

    async def _hand_back(self, held: LocalJob) -> None:
        """A job whose start is not known to have come through is released, and given back if it had."""
        reason = held.stop.reason if held.stop else SHUT_DOWN
        if await self.release(held.id, held.receipt, reason) == ErrorCode.WRONG_STATE:
            await self.outbox.deliver(held, FinishRequest(reason=_short(reason), give_back=True))
        self.table.forget(held)
        archive(self.state, held.dir)

    async def _run_started(self, held: LocalJob, *, is_launched: bool = False) -> None:
        """From the confirmed start to the settled outcome; the rest of the log may follow after that."""
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(self.uploader.follow(held), name=f"log-{held.id}")
            stopper = group.create_task(stop_when_wanted(held, grace_s=self.grace_s), name=f"stop-{held.id}")
            freezer = group.create_task(self.freezer.attend(held), name=f"freeze-{held.id}")
            finish = await self._process(held, is_launched=is_launched)
            stopper.cancel()
            freezer.cancel()
            self.table.finishing(held)
            await self._settle(held, finish, upload)
        archive(self.state, held.dir)

    async def _process(self, held: LocalJob, *, is_launched: bool) -> FinishRequest:
        if not is_launched:
            try:
                await self._launch_when_allowed(held)
            except _StoppedBefore as error:
                return FinishRequest(reason=_short(str(error)), give_back=error.gives_back)
            except LaunchFailed as error:
                # An earlier run of the agent may have asked for the launch as well, and have had its way.
                if not held.dir.was_launched:
                    log.error("job_not_launched", reason=error.reason)  # noqa: TRY400 - the cause is in the event
                    say(held, f"The task could not be launched on this worker: {error.reason}")
                    return FinishRequest(reason=_short(f"not launched: {error.reason}"), give_back=error.gives_back)
            log.info("job_started", queue=held.job.queue, **_what(held.job))
        result = await self.host.wait(held.dir.path)
        return _finish(held, result)

    async def _launch_when_allowed(self, held: LocalJob) -> None:
        """Waits for no runtime that takes minutes if the job is to end anyway, and launches nothing that is frozen.

        Raises:
            LaunchFailed: It does not run here.
            _StoppedBefore: Nothing of it was launched, or ever will be.
        """
        while held.stop is None:
            self.fence.look_at(held)
            if await done_before(held.not_frozen.wait(), held.stop_wanted) and await self._is_launched(held):
                return
        # Perhaps the job's process is about to exist: whoever makes `pid.json` first decides.
        if job_files.claim(held.dir.path, job_files.no_process(held.id)):
            raise _StoppedBefore(held.stop)

    async def _is_launched(self, held: LocalJob) -> bool:
        """False if the job was to stop or was frozen first.

        Raises:
            LaunchFailed: It does not run here.
        """
        launch = self.host.launch(held.job, held.dir.path)
        return await done_before(launch, held.stop_wanted, held.frozen) or held.dir.was_launched

    async def _settle(self, held: LocalJob, finish: FinishRequest, upload: asyncio.Task[None]) -> None:
        asyncio.get_running_loop().call_later(TELL_AFTER_S, self.table.changed)
        # Its answer decides the outcome; without a link the outcome could not be delivered either.
        await held.no_final_write.wait()
        if held.stop is not None and held.stop.drop:
            log.info("job_dropped", reason=held.stop.reason)
            self.table.forget(held)
            await asyncio.wait({upload}, timeout=DROPPED_LOG_S)
            upload.cancel()
        else:
            await asyncio.wait({upload}, timeout=LOG_FIRST_S)
            taken = await self.outbox.deliver(held, finish)
            log.info(
                "job_finished",
                exit_code=finish.exit_code,
                reason=finish.reason,
                final_state=held.final_state,
                stopped=held.stop.reason if held.stop else None,
                accepted=taken,
            )
        self.table.forget(held)

    async def _resume_settlement(self, held: LocalJob, finish: FinishRequest) -> None:
        async with asyncio.TaskGroup() as group:
            upload = group.create_task(self.uploader.follow(held), name=f"log-{held.id}")
            await self._settle(held, finish, upload)
        archive(self.state, held.dir)

    async def _upload_rest(self, held: LocalJob) -> None:
        # An outcome is only reported once no process is left; this run has seen none.
        held.gone.set()
        await self.uploader.follow(held)
        archive(self.state, held.dir)

    async def _give_back(self, held: LocalJob, error: OSError) -> None:
        log.error("job_dir_not_writable", error=str(error))
        self._pause_intake()
        self.table.forget(held)
        await self.release(held.id, held.receipt, f"the job's folder cannot be made: {error.strerror}")

    def _pause_intake(self) -> None:
        self.table.close_intake("job_dir", "the worker's disk cannot be written")
        asyncio.get_running_loop().call_later(DISK_PAUSE_S, self.table.open_intake, "job_dir")


def _what(job: Job) -> dict[str, str]:
    """What runs, for the agent's log."""
    if job.task is not None:
        return {"dag": job.task.dag_id, "task": job.task.task_id}
    return {"auxiliary": job.auxiliary.kind} if job.auxiliary is not None else {}


def _finish(held: LocalJob, result: JobResult) -> FinishRequest:
    """What to report of a job whose processes are gone."""
    reason = _reason(result)
    is_lost = result.exit_code is None and result.error is not None
    stop = held.stop if held.final_state is None else None
    if stop is not None:
        reason = f"{stop.reason}; {reason}" if reason else stop.reason
    give_back = is_lost or (stop is not None and stop.gives_back)
    return FinishRequest(exit_code=result.exit_code, reason=_short(reason) if reason else None, give_back=give_back)


def _reason(result: JobResult) -> str | None:
    if result.error:
        return result.error
    if result.exit_code is None or result.exit_code == 0:
        return None
    if result.exit_code < 0:
        try:
            return f"the task's process was ended by {signal.Signals(-result.exit_code).name}"
        except ValueError:
            return f"the task's process was ended by signal {-result.exit_code}"
    return f"the task's process ended with status {result.exit_code}"


def _short(text: str) -> str:
    """As much as the wire takes; user code may have named something that is no valid text."""
    return text.encode(errors="replace").decode()[:1000]
