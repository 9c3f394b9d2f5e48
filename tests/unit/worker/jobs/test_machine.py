"""The page on a job at the worker lists what its machine does: stages, events, activities, notes."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs import events as e
from edge_worker.jobs.events import Activity, Event, Facts, Lane, Note, StopWish
from edge_worker.jobs.job_state import Frozen, LocalJob, Stage, under_way
from edge_worker.jobs.machine import MAX_FAULTS, step

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "job-at-the-worker.md").read_text()
FINISH = EndReport(exit_code=0)

EVENTS: dict[str, tuple[Event, ...]] = {
    "Granted": (e.Granted("r"), e.Granted("r", "no room")),
    "Recovered": tuple(
        e.Recovered(facts)
        for facts in (
            Facts(),
            Facts(is_started=True),
            Facts(is_started=True, is_launched=True),
            Facts(is_started=True, is_launched=True, finish=FINISH),
            Facts(is_started=True, is_launched=True, finish=FINISH, is_finished=True),
        )
    ),
    "FolderUnwritable": (e.FolderUnwritable("full"),),
    "LaunchFailed": (e.LaunchFailed("no"),),
    "StopWanted": (e.StopWanted(StopWish("s")), e.StopWanted(StopWish("s", drop=True))),
    "ContactLost": (e.ContactLost("c"),),
    "HolderRefused": (e.HolderRefused(ErrorCode.NOT_HOLDER, "no"),),
    "FinalWriteEnded": (e.FinalWriteEnded(), e.FinalWriteEnded("success")),
    "ReleaseAnswered": (e.ReleaseAnswered(), e.ReleaseAnswered(ErrorCode.WRONG_STATE)),
    "Fault": (e.Fault("f"),),
}
"""Samples; of an event that is not listed its one value."""


WITHOUT_FOLDER = {Stage.GRANTED, Stage.RELEASING, Stage.FAULTED, Stage.RECOVERING}
"""Stages in which a job may have no folder of its own."""


WITH_PROCESS = {Stage.LAUNCHING, Stage.RUNNING, Stage.UNFOLLOWED}


def jobs(stage: Stage) -> Iterator[LocalJob]:
    """Jobs that stand in a stage, in all the ways that make a difference."""
    if stage is Stage.NEW:
        yield LocalJob()
        return
    flags = (False, True)
    stops = (None, StopWish("s"), StopWish("s", drop=True))
    is_after_fault = stage in {Stage.FAULTED, Stage.RECOVERING}
    every = itertools.product(
        flags if stage in WITHOUT_FOLDER else (True,),
        (False,) if stage in {Stage.UPLOADING, Stage.DROPPED} else flags,
        flags if is_after_fault else (False,),
        stops,
        (0, 1),
        Frozen if stage in WITH_PROCESS else (Frozen.NO,),
        (None, "success") if stage in WITH_PROCESS else (None,),
        (0, MAX_FAULTS) if is_after_fault else (0,),
        (None, FINISH) if is_after_fault else (FINISH,),
    )
    for has_folder, is_log_done, is_relay_done, stop, writes, frozen, final_state, faults, finish in every:
        yield LocalJob(
            stage=stage,
            has_folder=has_folder or is_relay_done,
            is_log_done=is_log_done,
            is_relay_done=is_relay_done,
            is_started=stage in WITH_PROCESS,
            stop=stop,
            final_writes=writes,
            frozen=frozen,
            final_state=final_state,
            faults=faults,
            fault="f",
            finish=finish,
            release="r" if stage is Stage.RELEASING or (stage is Stage.RECOVERING and not has_folder) else "",
        )


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"][
        2:
    ]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def samples(name: str) -> tuple[Event, ...]:
    return EVENTS.get(name) or (getattr(e, name)(),)


def names(union: object) -> set[str]:
    return {member.__name__ for member in get_args(union)}


def test_the_drawing_shows_each_stage() -> None:
    drawing = PAGE.partition("```\n")[2].partition("```")[0]
    assert {stage.value for stage in Stage} <= set(re.findall(r"\w+", drawing))


@pytest.mark.parametrize("stage", Stage)
def test_the_page_lists_what_is_under_way(stage: Stage) -> None:
    (row,) = [row for row in rows("Stages") if row[0] == f"`{stage.value}`"]
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for job in jobs(stage):
        for lane, activity in under_way(job).items():
            seen[lane is Lane.MAIN].add(type(activity).__name__)
    assert (quoted(row[2]), quoted(row[3])) == (seen[True], seen[False])


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.OVER])
def test_the_page_lists_where_events_lead(stage: Stage) -> None:
    listed = {
        (name, target)
        for row in rows("Events that lead to another stage")
        if row[0] == f"`{stage.value}`"
        for name in quoted(row[1])
        for target in quoted(row[2])
        if target in {one.value for one in Stage}
    }
    found = {
        (name, after.stage.value)
        for name in names(Event) - {"Fault"}
        for event in samples(name)
        for job in jobs(stage)
        if (after := step(job, event)[0]).stage is not stage
    }
    assert listed == found


def test_an_error_leads_to_a_pause_in_any_stage_but_the_last() -> None:
    assert {step(job, e.Fault("f"))[0].stage for stage in Stage if stage is not Stage.OVER for job in jobs(stage)} == {
        Stage.FAULTED
    }
    over = LocalJob(stage=Stage.OVER)
    assert step(over, e.Fault("f")) == (over, ())


def test_the_page_names_each_event_activity_and_note() -> None:
    named = quoted(PAGE)
    assert names(Event) <= named
    assert names(Activity) <= named
    assert {row[0] for row in rows("What is done at once")} == {f"`{note.name}`" for note in Note}


def test_the_last_stage_knows_no_event() -> None:
    over = LocalJob(stage=Stage.OVER)
    for name in names(Event):
        for event in samples(name):
            after, actions = step(over, event)
            assert (after.stage, actions) == (Stage.OVER, ())


@pytest.mark.parametrize(
    ("gone", "reason", "release"),
    [
        (e.ProcessGone(0), None, False),
        (e.ProcessGone(3), "the process ended with status 3", False),
        (e.ProcessGone(-9), "the process was ended by SIGKILL", False),
        (e.ProcessGone(-300), "the process was ended by signal 300", False),
        (e.ProcessGone(None, "the machine went down"), "the machine went down", True),
    ],
)
def test_the_outcome_says_how_a_process_ended(gone: e.ProcessGone, reason: str | None, *, release: bool) -> None:
    job, _ = step(LocalJob(stage=Stage.RUNNING, has_folder=True), gone)
    assert job.finish == EndReport(exit_code=gone.exit_code, reason=reason, release=release)


def test_the_outcome_of_a_stopped_job_begins_with_why() -> None:
    running = LocalJob(stage=Stage.RUNNING, has_folder=True, stop=StopWish("marked as failed", releases=True))
    stopped, _ = step(running, e.ProcessGone(-15))
    assert stopped.finish is not None
    assert stopped.finish.reason == "marked as failed; the process was ended by SIGTERM"
    assert stopped.finish.release
    decided, _ = step(replace(running, final_state="success"), e.ProcessGone(0))
    assert decided.finish == EndReport(exit_code=0)


def test_a_job_that_was_given_back_is_not_given_back_again_after_an_error() -> None:
    job = LocalJob(stage=Stage.RELEASING, has_folder=True, release="the worker is being shut down")
    stages = []
    for event in (e.ReleaseAnswered(), e.Fault("f"), e.GraceOver(), e.Recovered(Facts())):
        job, _ = step(job, event)
        stages.append(job.stage)
    assert stages[0] is Stage.ARCHIVING
    assert stages[-1] is not Stage.RELEASING


def test_a_known_outcome_is_reported_after_an_error_although_the_disk_does_not_have_it() -> None:
    """Otherwise the job would be launched again, and the fence would not see it: the job counts as gone."""
    job = LocalJob(stage=Stage.LAUNCHING, has_folder=True, is_started=True)
    for event in (e.LaunchFailed("no memory"), e.Fault("f"), e.GraceOver(), e.Recovered(Facts(is_started=True))):
        job, _ = step(job, event)
    assert (job.stage, job.finish) == (Stage.ENDING, EndReport(reason="not launched: no memory"))


def test_a_confirmed_start_is_remembered_although_the_disk_does_not_have_it() -> None:
    job = LocalJob(stage=Stage.LAUNCHING, has_folder=True, is_started=True)
    for event in (e.Fault("f"), e.GraceOver(), e.Recovered(Facts())):
        job, _ = step(job, event)
    assert job.stage is Stage.LAUNCHING


def test_an_error_has_everything_begun_again() -> None:
    """What is under way in a stage may be the very thing that has failed."""
    faulted = LocalJob(stage=Stage.FAULTED, has_folder=True, faults=MAX_FAULTS + 9)
    _, actions = step(faulted, e.Fault("f"))
    assert actions == (e.Begin(Lane.TIMER, e.Wait(60.0)),)


@pytest.mark.parametrize("accepted", [None, "success"])
def test_a_frozen_job_that_is_not_followed_is_killed_unless_its_final_state_was_accepted(accepted: str | None) -> None:
    job = LocalJob(stage=Stage.UNFOLLOWED, has_folder=True, is_started=True, frozen=Frozen.ASKING, final_writes=1)
    assert under_way(job) == {Lane.FREEZE: e.Freeze(), Lane.MAIN: e.AwaitGone(kills=False, thaws=False)}
    job, _ = step(job, e.FinalWriteEnded(accepted))
    assert under_way(job) == {Lane.MAIN: e.AwaitGone(kills=accepted is None, thaws=accepted is not None)}


def test_the_answer_to_a_final_write_is_waited_for_before_the_outcome_goes_out() -> None:
    job = LocalJob(stage=Stage.RUNNING, has_folder=True, is_started=True, is_log_done=True, final_writes=1)
    ending, _ = step(job, e.ProcessGone(0))
    assert (ending.stage, dict(under_way(ending))) == (Stage.ENDING, {})
    reporting, actions = step(ending, e.FinalWriteEnded("success"))
    assert (reporting.stage, reporting.final_state) == (Stage.REPORTING, "success")
    assert actions == (e.Begin(Lane.MAIN, e.Report(EndReport(exit_code=0))),)


@pytest.mark.parametrize("frozen", list(Frozen))
def test_a_slot_is_free_when_the_task_is_over_although_its_supervisor_waits(frozen: Frozen) -> None:
    """A poll still reports the job as running, and what is under way for it continues."""
    running = LocalJob(stage=Stage.RUNNING, has_folder=True, is_started=True, frozen=frozen)
    exited, actions = step(running, e.TaskExited())
    assert (running.uses_slot, exited.uses_slot, exited.phase) == (True, False, JobPhase.RUNNING)
    assert actions == (e.Note.POLL_SOON,)
    assert under_way(exited) == under_way(running)
    assert step(exited, e.TaskExited()) == (exited, ())
    ending, _ = step(exited, e.ProcessGone(0))
    assert (ending.uses_slot, ending.phase) == (False, JobPhase.FINISHING)


def test_a_start_that_came_through_unheard_is_reported_instead_of_released() -> None:
    job = LocalJob(stage=Stage.RELEASING, has_folder=True, release="the worker is being shut down")
    job, _ = step(job, e.ReleaseAnswered(ErrorCode.WRONG_STATE))
    assert job.finish == EndReport(reason="the worker is being shut down", release=True)
    # What was refused for want of room may be the worker's own all the same, of a hold whose folder cannot be read.
    refused = LocalJob(stage=Stage.RELEASING, release="all slots are taken")
    assert step(refused, e.ReleaseAnswered(ErrorCode.WRONG_STATE))[0].stage is Stage.OVER


def test_a_job_that_is_to_stop_while_it_is_being_thawed_gets_its_grace_from_the_beginning() -> None:
    """Killed at first, it would get a SIGTERM once it runs again: the stop would change its mind."""
    job = LocalJob(stage=Stage.RUNNING, has_folder=True, is_started=True, frozen=Frozen.ASKING)
    job, _ = step(job, e.HolderConfirmed())
    job, _ = step(job, e.StopWanted(StopWish("cancelled")))
    assert under_way(job)[Lane.STOP] == e.Stop()
    job, actions = step(job, e.Thawed())
    assert under_way(job)[Lane.STOP] == e.Stop()
    assert Lane.STOP not in {action.lane for action in actions if isinstance(action, e.Begin | e.Cancel)}


def test_a_job_whose_final_state_is_accepted_after_its_end_is_not_released() -> None:
    """Its process ended after a stop of the worker, while the answer to its final write was on its way."""
    wish = StopWish("the worker is being shut down", releases=True)
    job = LocalJob(stage=Stage.RUNNING, has_folder=True, is_started=True, is_log_done=True, final_writes=1, stop=wish)
    job, _ = step(job, e.ProcessGone(0))
    refused, _ = step(job, e.FinalWriteEnded())
    accepted, _ = step(job, e.FinalWriteEnded("success"))
    assert [after.finish is not None and after.finish.release for after in (refused, accepted)] == [True, False]


def test_a_job_whose_code_has_no_room_waits_again_and_the_worker_pauses() -> None:
    job = LocalJob(stage=Stage.LAUNCHING, has_folder=True, is_started=True, is_log_done=True)
    after, actions = step(job, e.LaunchFailed("no room", releases=True, pauses=True))
    assert after.finish == EndReport(reason="not launched: no room", release=True)
    assert e.Note.PAUSE_INTAKE in actions
    _, actions = step(job, e.LaunchFailed("no room", releases=True))
    assert e.Note.PAUSE_INTAKE not in actions
