"""What drives a job: when its activities begin and end, and what becomes of their results."""

import asyncio
import logging
from pathlib import Path

import pytest

from edge_worker.jobs import events as e
from edge_worker.jobs import job_state
from edge_worker.jobs.driver import JobDriver, Performer
from edge_worker.jobs.events import Activity, Event, Facts, Note
from edge_worker.jobs.job_state import Stage
from edge_worker.state.job_dir import JobDir
from support.relay.jobs import make_job

RUNNING = e.Recovered(Facts(is_started=True, is_launched=True))


class _World:
    """Ends activities when the test wants it.

    Attributes:
        begun: In this order, by name; what was cancelled appears with a minus sign once it has ended.
        answers: What an activity ends with, by name; an error is raised.
        slow: Activities that take some time to end when they are cancelled, and answer all the same.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.answers: dict[str, asyncio.Future[Event]] = {}
        self.slow: set[str] = set()
        self.notes: list[Note] = []

    def answer(self, name: str) -> asyncio.Future[Event]:
        return self.answers.setdefault(name, asyncio.get_running_loop().create_future())

    async def perform(self, _: JobDriver, activity: Activity) -> Event:
        name = type(activity).__name__
        self.begun.append(name)
        try:
            return await asyncio.shield(self.answer(name))
        except asyncio.CancelledError:
            if name not in self.slow:
                self.begun.append(f"-{name}")
                raise
        await asyncio.sleep(0.02)
        self.begun.append(f"-{name}")
        return self.answers[name].result()

    def note(self, _: JobDriver, note: Note) -> None:
        self.notes.append(note)


def _driver(world: _World, group: asyncio.TaskGroup, tmp_path: Path) -> JobDriver:
    return JobDriver(make_job(), JobDir(tmp_path), Performer(world.perform, world.note), group)


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_job_goes_from_grant_to_its_end(tmp_path: Path) -> None:
    world = _World()
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(e.Granted("receipt"))
        ends: dict[str, Event] = {
            "MakeFolder": e.FolderMade(), "Start": e.StartConfirmed(), "Launch": e.LaunchSucceeded(),
            "AwaitEnd": e.ProcessGone(0), "FollowLog": e.LogDone(), "Report": e.FinishAnswered(),
            "Archive": e.Archived(),
        }  # fmt: skip
        for name, event in ends.items():
            world.answer(name).set_result(event)
        await driver.until_over()
    assert (driver.now.stage, world.notes) == (Stage.OVER, [Note.POLL_SOON, Note.FORGET])
    assert "-FollowLog" not in world.begun


async def test_the_result_of_an_abandoned_activity_is_dropped(tmp_path: Path) -> None:
    """Such as the confirmation of a holder, when the job has ended meanwhile."""
    world = _World()
    world.slow = {"AskHolder"}
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(RUNNING)
        driver.post(e.ContactLost("silence"))
        await _turns()
        world.answer("AskHolder").set_result(e.HolderConfirmed())
        # Both in one turn of the event loop: the job ends before the answer is taken.
        driver.post(e.ProcessGone(0))
        await asyncio.sleep(0.05)
        assert driver.now.stage is Stage.ENDING
        assert not driver.now.is_frozen
        driver.close()


async def test_activities_of_one_lane_never_overlap(tmp_path: Path) -> None:
    world = _World()
    world.slow = {"Freeze"}
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(RUNNING)
        driver.post(e.ContactLost("silence"))
        await _turns()
        world.answer("AskHolder").set_result(e.HolderConfirmed())
        await asyncio.sleep(0.1)
        driver.close()
        world.answer("Freeze").cancel()
    freezes = [name for name in world.begun if name.strip("-") in {"Freeze", "Thaw"}]
    assert freezes[:2] == ["Freeze", "-Freeze"]
    assert freezes[2] == "Thaw"


async def test_an_unexpected_error_ends_no_other_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job_state, "FAULT_PAUSE_S", 0.01)
    caplog.set_level(logging.ERROR)
    faulty, sound = _World(), _World()
    async with asyncio.TaskGroup() as group:
        one, other = (_driver(world, group, tmp_path) for world in (faulty, sound))
        for driver in (one, other):
            driver.post(RUNNING)
        await _turns()
        faulty.answer("AwaitEnd").set_exception(RuntimeError("a bug"))
        await _turns()
        assert (one.now.stage, one.now.faults) == (Stage.FAULTED, 1)
        assert one.now.fault == "the worker could not follow this job: RuntimeError"
        assert other.now.stage is Stage.RUNNING
        assert sorted(name for name in faulty.begun if name[0] == "-") == ["-FollowLog"]
        for driver in (one, other):
            driver.close()
    assert [record.message for record in caplog.records] == ["job_fault"]


async def test_what_is_frozen_is_frozen_when_the_event_is_posted(tmp_path: Path) -> None:
    """Before anything else in the event loop has its turn."""
    world = _World()
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(e.Recovered(Facts(is_started=True)))
        driver.post(e.ContactLost("silence"))
        assert driver.now.is_frozen
        await _turns()
        assert "Launch" not in world.begun
        assert {"Freeze", "AskHolder"} <= set(world.begun)
        driver.close()


async def test_a_closed_driver_takes_no_event(tmp_path: Path) -> None:
    world = _World()
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(RUNNING)
        await _turns()
        await driver.closed()
        assert driver.is_over
        driver.post(e.ProcessGone(0))
        assert driver.now.stage is Stage.RUNNING
        await driver.until_over()


async def test_an_error_in_what_is_done_at_once_is_a_fault_of_the_job(tmp_path: Path) -> None:
    """And none of the loop that has posted the event."""

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with asyncio.TaskGroup() as group:
        driver = JobDriver(make_job(), JobDir(tmp_path), Performer(_World().perform, fail), group)
        driver.post(RUNNING)
        driver.post(e.ProcessGone(0))
        assert driver.now.stage is Stage.FAULTED
        driver.close()


async def test_an_activity_that_awaits_a_cancelled_task_is_a_fault_of_its_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has cancelled the activity: if it ended in silence, the job would never continue."""
    caplog.set_level(logging.ERROR)
    world = _World()
    world.slow = {"AwaitEnd"}
    async with asyncio.TaskGroup() as group:
        driver = _driver(world, group, tmp_path)
        driver.post(RUNNING)
        await _turns()
        world.answer("AwaitEnd").cancel()
        await asyncio.sleep(0.05)
        assert driver.now.stage is Stage.FAULTED
        driver.close()
