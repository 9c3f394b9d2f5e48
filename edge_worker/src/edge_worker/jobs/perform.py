"""Carries out the actions of jobs: hands each to the part that knows the other side."""

import asyncio
from dataclasses import dataclass
from typing import assert_never

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
    GraceOver,
    HoldStill,
    Kill,
    Launch,
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
    """Carries out the actions of all jobs."""

    table: JobRegistry
    state: StateDir
    relay: RelayActions
    processes: ProcessActions
    uploader: LogUploader

    async def perform(self, held: JobDriver, activity: Activity) -> Event | None:
        """Does what takes time; returns the event with which it ends."""
        match activity:
            case HoldStill():
                await self.processes.freeze(held)
            case Thaw():
                return await self.processes.thaw(held)
            case AskHolder():
                return await self.relay.ask_holder(held)
            case Stop():
                await self.processes.stop(held)
            case Kill():
                await self.processes.kill(held)
            case FollowLog():
                await self.uploader.follow(held)
                return LogDone()
            case Wait():
                await asyncio.sleep(activity.seconds)
                return GraceOver()
            case _:
                return await self._perform_main(held, activity)
        return None

    async def _perform_main(self, held: JobDriver, activity: MainActivity) -> Event:
        match activity:
            case MakeFolder():
                return await make_folder(self.state, held, is_new=activity.is_new)
            case Start():
                return await self.relay.start(held)
            case Launch():
                return await self.processes.launch(held)
            case RuleOut():
                return await self.processes.rule_out(held)
            case AwaitEnd():
                return await self.processes.await_end(held)
            case AwaitGone():
                return await self.processes.await_gone(held, kills=activity.kills, thaws=activity.thaws)
            case Report():
                return await self.relay.report(held, activity.finish)
            case Release():
                return await self.relay.release(held, activity.reason)
            case _:
                return self._perform_in_folder(held, activity)

    def _perform_in_folder(self, held: JobDriver, activity: ReadFolder | Archive) -> Event:
        if isinstance(activity, ReadFolder):
            return Recovered(read_facts(held.dir))
        archive(self.state, held.dir)
        return Archived()

    def note(self, held: JobDriver, note: Note) -> None:
        """Does what is done at once."""
        match note:
            case Note.FORGET:
                self.table.forget(held)
            case Note.DROP:
                log.info("job_dropped", reason=held.now.stop.reason if held.now.stop else None)
                self.table.forget(held)
            case Note.SPARE:
                log.info("stop_not_needed", final_state=held.now.final_state)
            case Note.POLL_SOON:
                asyncio.get_running_loop().call_later(POLL_AFTER_S, self.table.changed)
            case Note.PAUSE_INTAKE:
                self.table.close_intake("job_dir", "the worker's disk cannot be written")
                asyncio.get_running_loop().call_later(DISK_PAUSE_S, self.table.open_intake, "job_dir")
            case _:
                assert_never(note)
