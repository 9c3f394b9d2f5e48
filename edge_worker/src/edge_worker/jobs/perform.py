"""Carries out the actions of jobs: hands each to the part that knows the other side."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from edge_schemas.wire.jobs import Job
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import (
    Activity,
    Archive,
    Archived,
    AskHolder,
    AwaitEnd,
    AwaitGone,
    Event,
    FollowLog,
    Freeze,
    GraceOver,
    Kill,
    Launch,
    LaunchSucceeded,
    LogDone,
    MainActivity,
    MakeFolder,
    Note,
    ReadFolder,
    Recovered,
    Release,
    Report,
    RuleOut,
    Start,
    Stop,
    Thaw,
    Wait,
)
from edge_worker.jobs.process_actions import ProcessActions
from edge_worker.jobs.recovery import archive, make_folder, read_facts
from edge_worker.jobs.registry import JobRegistry
from edge_worker.jobs.relay_actions import RelayActions
from edge_worker.log import EventLog
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.state.state import StateDir

POLL_AFTER_S = 0.2
"""Until then the outcome is mostly accepted, and one poll can report the free slot and the end of the job."""
DISK_PAUSE_S = 30.0
"""How long no job is taken after one could not be written down: once released, it would be granted again at once."""

log = EventLog("edge_worker.jobs.perform")


@dataclass(frozen=True)
class ActionPerformer:
    """Carries out the actions of all jobs.

    Attributes:
        has_run: Called with an auxiliary job whose process was started.
    """

    table: JobRegistry
    state: StateDir
    relay: RelayActions
    processes: ProcessActions
    uploader: LogUploader
    has_run: Callable[[Job], None]

    async def perform(self, driver: JobDriver, activity: Activity) -> Event | None:
        """Does what takes time; returns the event with which it ends."""
        match activity:
            case Freeze():
                await self.processes.freeze(driver)
            case Thaw():
                return await self.processes.thaw(driver)
            case AskHolder():
                return await self.relay.ask_holder(driver)
            case Stop():
                await self.processes.stop(driver)
            case Kill():
                await self.processes.kill(driver)
            case FollowLog():
                await self.uploader.follow(driver)
                return LogDone()
            case Wait():
                await asyncio.sleep(activity.seconds)
                return GraceOver()
            case _:
                return await self._perform_main(driver, activity)
        return None

    async def _perform_main(self, driver: JobDriver, activity: MainActivity) -> Event:
        match activity:
            case MakeFolder():
                return await make_folder(self.state, driver, is_new=activity.is_new)
            case Start():
                return await self.relay.start(driver)
            case Launch():
                return await self._launch(driver)
            case RuleOut():
                return await self.processes.rule_out(driver)
            case AwaitEnd():
                return await self.processes.await_end(driver)
            case AwaitGone():
                return await self.processes.await_gone(driver, kills=activity.kills, thaws=activity.thaws)
            case Report():
                return await self.relay.report(driver, activity.finish)
            case Release():
                return await self.relay.release(driver, activity.reason, counts=activity.counts)
            case _:
                return self._perform_in_folder(driver, activity)

    async def _launch(self, driver: JobDriver) -> Event:
        """A task counts as run once its user code begins; a callback or connection test does not report that."""
        event = await self.processes.launch(driver)
        if isinstance(event, LaunchSucceeded) and driver.job.auxiliary is not None:
            self.has_run(driver.job)
        return event

    def _perform_in_folder(self, driver: JobDriver, activity: ReadFolder | Archive) -> Event:
        if isinstance(activity, ReadFolder):
            return Recovered(read_facts(driver.dir))
        archive(self.state, driver.dir)
        self.processes.code.job_ended()
        return Archived()

    def note(self, driver: JobDriver, note: Note) -> None:
        """Does what is done at once."""
        match note:
            case Note.FORGET:
                self.table.forget(driver)
            case Note.DROP:
                log.info("job_dropped", reason=driver.now.stop.reason if driver.now.stop else None)
                self.table.forget(driver)
            case Note.SPARE:
                log.info("stop_not_needed", final_state=driver.now.final_state)
            case Note.POLL_SOON:
                asyncio.get_running_loop().call_later(POLL_AFTER_S, self.table.changed)
            case Note.PAUSE_INTAKE:
                self.table.close_intake("job_dir", "the worker's disk is full or cannot be written")
                asyncio.get_running_loop().call_later(DISK_PAUSE_S, self.table.open_intake, "job_dir")
            case _:
                assert_never(note)
