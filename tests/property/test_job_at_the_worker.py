"""A job at the worker under any order of events: the very `step()` that the agent runs, in a small model of its world.

The model knows the relay's record, the process, and what is on disk. Any action may fail, hang, or
have its effect although its answer is lost; agents are killed and started again at any time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs import events as e
from edge_worker.jobs.events import Activity, Cancel, Event, Facts, Lane, Note
from edge_worker.jobs.job_state import LocalJob, Stage, under_way
from edge_worker.jobs.machine import MAX_FAULTS, step

pytestmark = pytest.mark.timeout(180)

TURNS_TO_THE_END = 60
MOSTLY = st.sampled_from([True, True, True, False])


@dataclass
class Folder:
    """What is on disk."""

    receipt: str
    is_started: bool = False
    taken_by: str = ""
    """`process`, `nobody`, or empty."""
    is_frozen: bool = False
    final_state: str | None = None
    finish: EndReport | None = None
    is_finished: bool = False

    def facts(self) -> Facts:
        return Facts(
            receipt=self.receipt,
            is_started=self.is_started,
            is_launched=self.taken_by == "process",
            is_finished=self.is_finished,
            is_frozen=self.is_frozen,
            final_state=self.final_state,
            finish=self.finish,
        )


@dataclass
class World:
    """All that is not the machine.

    Attributes:
        holder: By the record: `nobody` (the job waits), `us`, `other` or `ended`.
        is_asked_to_launch: The task host may yet start a process.
        confirmed: The centre has said since the last loss of contact that this worker holds the job.
    """

    holder: str = "nobody"
    was_ours: bool = False
    folder: Folder | None = None
    is_alive: bool = False
    is_stopped: bool = False
    processes: int = 0
    is_asked_to_launch: bool = False
    confirmed: bool = True
    accepted: str | None = None
    is_writing: bool = False
    is_known: bool = True
    ends: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """User code runs on this machine."""
        return self.is_alive and not self.is_stopped

    def launch(self) -> None:
        self.folder_at_hand.taken_by = "process"
        self.processes += 1
        self.is_alive = True
        self.is_asked_to_launch = False
        if self.holder == "nobody" or not self.was_ours:
            self.wrongs.append("a process without an accepted start")

    @property
    def folder_at_hand(self) -> Folder:
        assert self.folder is not None
        return self.folder

    def kill(self) -> None:
        if self.accepted is not None or self.is_writing:
            self.wrongs.append("a kill although a final state was accepted or on its way")
        self.is_alive = self.is_stopped = False


class JobAtTheWorker(RuleBasedStateMachine):
    """One grant, one agent after another, one process."""

    def __init__(self) -> None:
        super().__init__()
        self.job = LocalJob()
        self.world = World()
        self.lanes: dict[Lane, Activity] = {}

    # What the agent does.

    def post(self, event: Event) -> None:
        """As the driver does."""
        before = self.job
        self.job, actions = step(before, event)
        self.look_at_report(before)
        for action in actions:
            if isinstance(action, Note):
                self.note(action)
            elif isinstance(action, Cancel):
                self.lanes.pop(action.lane, None)
            else:
                self.lanes[action.lane] = action.activity
        self.freeze()

    def look_at_report(self, before: LocalJob) -> None:
        """Where an outcome goes out only after what decides about it."""
        job = self.job
        if job.stage is Stage.REPORTING and before.stage in {Stage.LAUNCHING, Stage.RUNNING, Stage.ENDING}:
            if job.stop is not None and job.stop.drop:
                self.world.wrongs.append("a report of a job that is to be dropped")
            if self.world.is_writing:
                self.world.wrongs.append("a report before the answer to a final write")

    def note(self, note: Note) -> None:
        if note in {Note.FORGET, Note.DROP}:
            self.world.is_known = False
        if note is Note.DROP:
            self.world.ends.append("dropped")

    def freeze(self) -> None:
        """What is held still stops at once, and so does what comes of it later."""
        world = self.world
        if isinstance(self.lanes.get(Lane.FREEZE), e.Freeze):
            world.folder_at_hand.is_frozen = True
            world.is_stopped = world.is_alive

    def finish_lane(self, lane: Lane, event: Event) -> None:
        """The activity has ended with this event."""
        del self.lanes[lane]
        self.post(event)

    # What the world does with an activity: it returns the event with which it ends, if it ends.

    def perform(self, activity: Activity, *, answers: bool, succeeds: bool) -> Event | None:
        """Does an activity; its answer may be lost, and what may fail may fail."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(activity).__name__).lower()
        deed: Callable[..., Event | None] = getattr(self, f"perform_{name}")
        event = deed(activity, succeeds)
        return event if answers else None

    def perform_make_folder(self, activity: e.MakeFolder, succeeds: bool) -> Event:
        world = self.world
        if activity.is_new and world.is_alive:
            return e.FolderUnwritable("an earlier process of the job lives")
        if not succeeds:
            return e.FolderUnwritable("the disk is full")
        if world.folder is None or activity.is_new:
            world.folder = Folder(self.job.receipt)
        world.folder.receipt = self.job.receipt
        return e.FolderMade()

    def perform_start(self, activity: e.Start, succeeds: bool) -> Event:
        world = self.world
        if world.holder not in {"nobody", "us"}:
            world.ends.append("refused")
            return e.StartRefused()
        world.holder, world.was_ours = "us", True
        world.folder_at_hand.is_started = succeeds
        return e.StartConfirmed()

    def perform_launch(self, activity: e.Launch, succeeds: bool) -> Event | None:
        world, folder = self.world, self.world.folder_at_hand
        if folder.taken_by == "process":
            return e.LaunchSucceeded()
        if folder.taken_by == "nobody":
            return e.LaunchFailed("this job was already started here")
        if not succeeds:
            world.is_asked_to_launch = True
            return None
        world.launch()
        return e.LaunchSucceeded()

    def perform_rule_out(self, activity: e.RuleOut, succeeds: bool) -> Event:
        folder = self.world.folder_at_hand
        if folder.taken_by:
            return e.LaunchSucceeded()
        folder.taken_by = "nobody"
        return e.LaunchRuledOut()

    def perform_await_end(self, activity: e.AwaitEnd, succeeds: bool) -> Event | None:
        if self.world.is_alive and succeeds and not self.world.is_stopped:
            before = self.job
            self.post(e.TaskExited())
            if self.job != replace(before, is_exited=True):
                self.world.wrongs.append("the exit of the task's own process changes more than the slot")
        return None if self.world.is_alive else e.ProcessGone(exit_code=0 if succeeds else None)

    def perform_await_gone(self, activity: e.AwaitGone, succeeds: bool) -> Event | None:
        if activity.kills and self.world.is_alive:
            self.world.kill()
        if activity.thaws:
            self.world.is_stopped = False
        return None if self.world.is_alive else e.ProcessGone()

    def perform_report(self, activity: e.Report, succeeds: bool) -> Event:
        world, folder = self.world, self.world.folder_at_hand
        if world.is_alive:
            world.wrongs.append("a report although a process lives")
        folder.finish = activity.finish
        if world.holder == "us":
            world.holder = "nobody" if activity.finish.release and world.accepted is None else "ended"
        return e.FinishAnswered()

    def perform_release(self, activity: e.Release, succeeds: bool) -> Event:
        if self.world.is_alive:
            self.world.wrongs.append("a release although a process lives")
        if self.world.holder in {"us", "other"}:
            return e.ReleaseAnswered(ErrorCode.WRONG_STATE)
        return e.ReleaseAnswered(ErrorCode.JOB_ENDED if self.world.holder == "ended" else None)

    def perform_read_folder(self, activity: e.ReadFolder, succeeds: bool) -> Event:
        folder = self.world.folder
        return e.Recovered(Facts() if folder is None else folder.facts())

    def perform_archive(self, activity: e.Archive, succeeds: bool) -> Event:
        self.world.folder = None
        return e.Archived()

    def perform_freeze(self, activity: e.Freeze, succeeds: bool) -> None:
        return

    def perform_thaw(self, activity: e.Thaw, succeeds: bool) -> Event:
        world = self.world
        if not world.confirmed and world.accepted is None:
            world.wrongs.append("a thaw without a confirmation")
        world.is_stopped = world.folder_at_hand.is_frozen = False
        return e.Thawed()

    def perform_ask_holder(self, activity: e.AskHolder, succeeds: bool) -> Event:
        if self.world.holder == "us" and succeeds:
            return e.HolderConfirmed()
        codes = {"us": ErrorCode.FORBIDDEN, "ended": ErrorCode.JOB_ENDED}
        return e.HolderRefused(codes.get(self.world.holder, ErrorCode.NOT_HOLDER), "no")

    def perform_stop(self, activity: e.Stop, succeeds: bool) -> None:
        if self.world.is_stopped and not isinstance(self.lanes.get(Lane.FREEZE), e.Thaw):
            self.world.wrongs.append("a grace for what is frozen")
        self.perform_kill(e.Kill(), succeeds)

    def perform_kill(self, activity: e.Kill, succeeds: bool) -> None:
        if self.world.is_alive:
            self.world.kill()

    def perform_follow_log(self, activity: e.FollowLog, succeeds: bool) -> Event | None:
        return e.LogDone() if self.job.is_gone or not succeeds else None

    def perform_wait(self, activity: e.Wait, succeeds: bool) -> Event:
        return e.GraceOver()

    def deliver(self, lane: Lane, *, answers: bool, succeeds: bool) -> None:
        """Lets the world do what is under way in a lane."""
        activity = self.lanes[lane]
        event = self.perform(activity, answers=answers, succeeds=succeeds)
        if event is None:
            return
        world = self.world
        match event:
            case e.FinishAnswered():
                world.folder_at_hand.is_finished = True
                world.ends.append("reported")
            case e.ReleaseAnswered() if event.code != ErrorCode.WRONG_STATE or not self.job.has_folder:
                world.ends.append("released")
            case e.HolderConfirmed() | e.StartConfirmed():
                world.confirmed = True
            case _:
                pass
        self.finish_lane(lane, event)

    # What may happen.

    @initialize(
        refusal=st.sampled_from([*[None] * 9, "all slots are taken"]),
        faults=st.sampled_from([0, 0, MAX_FAULTS - 1]),
        ahead=st.integers(0, 4),
        comes=st.sets(st.sampled_from(["lost answer", "final write", "freeze"])),
        stop=st.booleans(),
    )
    def grant(self, refusal: str | None, faults: int, ahead: int, comes: set[str], *, stop: bool) -> None:
        """Most of what is of interest comes after the launch, and is seldom met by chance."""
        self.world.is_known = refusal is None
        self.job = LocalJob(faults=faults)
        self.post(e.Granted("first", refusal))
        for _ in range(ahead):
            if Lane.MAIN in self.lanes:
                self.deliver(Lane.MAIN, answers=True, succeeds=True)
        if "lost answer" in comes and Lane.MAIN in self.lanes:
            self.deliver(Lane.MAIN, answers=False, succeeds=True)
        if "final write" in comes and self.world.runs:
            self.final_write_begins()
        if "freeze" in comes and self.can_be_fenced():
            self.fence_comes_down()
        if stop and self.world.is_known:
            self.stop_is_wanted(releases=True)

    @precondition(lambda self: self.lanes)
    @rule(data=st.data(), answers=MOSTLY, succeeds=MOSTLY)
    def carry_out(self, data: st.DataObject, *, answers: bool, succeeds: bool) -> None:
        self.deliver(self.some_lane(data), answers=answers, succeeds=succeeds)

    @precondition(lambda self: self.lanes)
    @rule(data=st.data(), fails=MOSTLY)
    def action_fails(self, data: st.DataObject, *, fails: bool) -> None:
        """Seldom, for else most jobs would not be followed for long; but where it does it may do so again and again."""
        if not fails or self.job.faults:
            self.finish_lane(self.some_lane(data), e.Fault("the worker could not follow this job: RuntimeError"))

    def some_lane(self, data: st.DataObject) -> Lane:
        return data.draw(st.sampled_from(sorted(self.lanes, key=lambda lane: lane.value)))

    @precondition(lambda self: self.world.is_asked_to_launch and self.world.folder is not None)
    @rule()
    def host_launches_late(self) -> None:
        """What makes `pid.json` first decides."""
        if self.world.folder_at_hand.taken_by:
            self.world.is_asked_to_launch = False
            return
        self.world.launch()
        self.freeze()

    @precondition(lambda self: self.world.runs)
    @rule()
    def process_ends(self) -> None:
        self.world.is_alive = False

    @precondition(lambda self: self.world.runs and self.world.is_known and not self.world.is_writing)
    @precondition(lambda self: self.world.accepted is None)
    @rule()
    def final_write_begins(self) -> None:
        self.world.is_writing = True
        self.post(e.FinalWriteBegun())

    @precondition(lambda self: self.world.is_writing)
    @rule(accepted=st.booleans())
    def final_write_ends(self, *, accepted: bool) -> None:
        world = self.world
        world.is_writing = False
        if accepted and world.holder == "us" and world.folder is not None:
            world.accepted = world.folder.final_state = "success"
        self.post(e.FinalWriteEnded(world.accepted))

    @precondition(lambda self: self.world.is_known and self.job.phase is not JobPhase.FINISHING)
    @rule(releases=st.booleans())
    def stop_is_wanted(self, *, releases: bool) -> None:
        """By the machine's owner, or by the centre, which wants what it has given up to be dropped."""
        drop = self.world.holder in {"other", "ended"} and not releases
        self.post(e.StopWanted(e.StopWish("stop", drop=drop, releases=releases)))

    @precondition(lambda self: self.can_be_fenced())
    @rule()
    def fence_comes_down(self) -> None:
        self.world.confirmed = False
        self.post(e.ContactLost("no contact"))

    @precondition(lambda self: self.world.holder == "us" and not self.world.runs and self.world.accepted is None)
    @precondition(lambda self: self.job.is_frozen and not self.world.confirmed and not self.world.is_asked_to_launch)
    @rule()
    def centre_gives_up(self) -> None:
        """After the tolerance; by then the fence has come down."""
        self.world.holder = "other"

    @rule()
    def granted_again(self) -> None:
        if self.world.is_known:
            self.post(e.Granted("second"))

    @rule(stays=MOSTLY)
    def agent_restarts(self, *, stays: bool) -> None:
        """It is killed. Processes continue; what was in memory is lost."""
        if stays:
            return
        self.job, self.lanes = LocalJob(), {}
        world = self.world
        world.is_writing = False
        world.ends.clear()
        world.is_known = True
        if world.folder is None:
            self.job = LocalJob(stage=Stage.OVER)
            world.is_known = False
            world.ends.append("nothing was left")
            return
        if world.folder.is_frozen:
            world.confirmed = False
        facts = world.folder.facts()
        if facts.is_finished:
            world.is_known = False
            world.ends.append("reported")
        self.post(e.Recovered(facts))
        if not world.confirmed and self.can_be_fenced():
            # The lease of the agent before is on disk, and the fence is looked at before anything is done.
            self.post(e.ContactLost("no contact"))

    def can_be_fenced(self) -> bool:
        job = self.job
        is_running = self.world.is_known and job.phase is JobPhase.RUNNING
        return is_running and not job.is_frozen and job.final_state is None

    # What always holds.

    @invariant()
    def nothing_wrong_was_done(self) -> None:
        assert not self.world.wrongs

    @invariant()
    def no_process_without_an_accepted_start(self) -> None:
        assert self.world.was_ours or not self.world.processes

    @invariant()
    def never_two_processes_for_one_job(self) -> None:
        elsewhere = self.world.holder in {"other", "nobody"}
        assert self.world.processes <= 1
        assert not (self.world.runs and elsewhere)

    @invariant()
    def an_accepted_final_state_is_never_followed_by_a_kill(self) -> None:
        if self.job.final_state is not None:
            assert Lane.STOP not in self.lanes
            assert not isinstance(main := self.lanes.get(Lane.MAIN), e.AwaitGone) or not main.kills

    @invariant()
    def nothing_frozen_is_launched_or_thawed_without_a_confirmation(self) -> None:
        if isinstance(self.lanes.get(Lane.FREEZE), e.Thaw):
            assert self.world.confirmed or self.job.final_state is not None
        if isinstance(self.lanes.get(Lane.MAIN), e.Launch):
            assert not self.job.is_frozen
            # A process whose final state was accepted was launched: there is nothing left to launch.
            assert self.world.confirmed or self.job.final_state is not None

    @invariant()
    def nothing_is_launched_for_a_job_that_is_gone(self) -> None:
        assert not (self.job.is_gone and isinstance(self.lanes.get(Lane.MAIN), e.Launch | e.RuleOut))

    @invariant()
    def each_job_is_given_back_or_reported_once(self) -> None:
        assert len(self.world.ends) <= 1
        if self.job.stage is Stage.OVER:
            assert len(self.world.ends) == 1
            assert not self.world.is_known

    @invariant()
    def nothing_is_left_on_disk_at_the_end(self) -> None:
        if self.job.stage is Stage.OVER:
            assert self.world.folder is None or not self.job.has_folder
            assert not self.lanes

    @invariant()
    def what_is_under_way_is_what_the_stage_wants(self) -> None:
        wanted = under_way(self.job)
        assert self.lanes.items() <= wanted.items()

    def teardown(self) -> None:
        """A job reaches its end when the world answers. A final write is answered last, for it is to be waited for."""
        for turn in range(TURNS_TO_THE_END):
            if self.job.stage in {Stage.OVER, Stage.NEW}:
                return
            if self.world.is_writing and turn > TURNS_TO_THE_END // 2:
                self.final_write_ends(accepted=True)
            if self.world.is_asked_to_launch:
                self.host_launches_late()
            for lane in list(self.lanes):
                if lane in self.lanes:
                    self.deliver(lane, answers=True, succeeds=True)
            if self.world.runs and turn > 2:
                self.process_ends()
            self.nothing_wrong_was_done()
            self.each_job_is_given_back_or_reported_once()
            self.nothing_is_left_on_disk_at_the_end()
        raise AssertionError(f"the job does not reach its end: {self.job}")


TestJobAtTheWorker = JobAtTheWorker.TestCase
TestJobAtTheWorker.settings = hypothesis.settings(max_examples=120, stateful_step_count=20)


class JobAtTheWorkerForLong(JobAtTheWorker):
    """The same, with many examples."""


TestJobAtTheWorkerForLong = pytest.mark.soak(pytest.mark.timeout(600)(JobAtTheWorkerForLong.TestCase))
TestJobAtTheWorkerForLong.settings = hypothesis.settings(max_examples=2000, stateful_step_count=20)
