"""A cut at each step of a job's life: the task ends as if nothing had happened, once.

Each cell is a job of its own with a fault that waits for one of its calls. The cells of a test run at the same time
before one relay and one agent, so each of them also goes through the cuts of the others.
"""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import pytest

from edge_schemas.life.model import Verdict
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.network.http_link import Fault, HttpLink, Point, Strike
from support.network.link import Cut
from support.system.site import Machine, Site, assert_happened_once, log_is_complete

pytestmark = pytest.mark.timeout(240)

SHARED = pytest.mark.asyncio(loop_scope="session")
JOBS = r"^/v1/jobs/{job}"
STEPS: dict[str, tuple[str, str]] = {
    "poll": ("POST", r"^/v1/poll$"),
    "grant": ("POST", r"^/v1/poll$"),
    "start": ("POST", JOBS + "/start$"),
    "run": ("PATCH", JOBS + "/execution/task-instances/.*/run$"),
    "user code": ("GET", JOBS + "/execution/variables/read$"),
    "xcom": ("POST", JOBS + "/execution/xcoms/.*/pushed"),
    "final state": ("PATCH", JOBS + "/execution/task-instances/.*/state$"),
    "finish": ("POST", JOBS + "/finish$"),
    "log": ("PUT", JOBS + r"/log\?"),
}
WAYS: dict[str, tuple[Fault, Point]] = {
    "refused": (Fault.REFUSE, Point.REQUEST),
    "refused after delivery": (Fault.REFUSE, Point.ANSWER),
    "reset": (Fault.RESET, Point.REQUEST),
    "reset after delivery": (Fault.RESET, Point.ANSWER),
    "half an answer": (Fault.HALF_ANSWER, Point.ANSWER),
    "502 of a proxy": (Fault.BAD_GATEWAY, Point.REQUEST),
    "502 of a proxy after delivery": (Fault.BAD_GATEWAY, Point.ANSWER),
    "repeated": (Fault.REPEAT, Point.REQUEST),
    "repeated at once": (Fault.REPEAT_AT_ONCE, Point.REQUEST),
    "black hole": (Fault.BLACK_HOLE, Point.REQUEST),
    "black hole after delivery": (Fault.BLACK_HOLE, Point.ANSWER),
}
SILENT = ("black hole", "black hole after delivery")


@dataclass(frozen=True)
class Cell:
    """One fault at one step."""

    step: str
    way: str

    @property
    def makes_sense(self) -> bool:
        """A grant is in the answer to a poll: it can't be lost on the way there."""
        return self.step != "grant" or WAYS[self.way][1] is Point.ANSWER

    def arm(self, link: HttpLink, job: Job) -> Strike:
        """Let the fault wait for this job."""
        method, path = STEPS[self.step]
        fault, point = WAYS[self.way]
        return link.arm(
            fault,
            method,
            path.replace("{job}", re.escape(job.id)),
            at=point,
            answer_holds=job.id.encode() if self.step == "grant" else b"",
            each=self.step == "log",
        )


# Each step and each way at least once, each call once lost and once its answer; none that only a time-out of a minute
# notices.
CHOSEN = (
    Cell("poll", "refused"),
    Cell("poll", "repeated at once"),
    Cell("grant", "reset after delivery"),
    Cell("start", "502 of a proxy after delivery"),
    Cell("start", "reset"),
    Cell("start", "repeated at once"),
    Cell("run", "refused after delivery"),
    Cell("run", "502 of a proxy"),
    Cell("run", "repeated"),
    Cell("user code", "502 of a proxy"),
    Cell("user code", "reset after delivery"),
    Cell("xcom", "half an answer"),
    Cell("xcom", "reset"),
    Cell("xcom", "repeated at once"),
    Cell("final state", "reset after delivery"),
    Cell("final state", "502 of a proxy"),
    Cell("finish", "half an answer"),
    Cell("finish", "reset"),
    Cell("finish", "repeated"),
    Cell("log", "502 of a proxy after delivery"),
    Cell("log", "reset"),
    Cell("log", "repeated at once"),
)


async def _run_cells(site: Site, worker: Machine, cells: Iterable[Cell], *, within_s: float = 90) -> None:
    """All cells at the same time, but each grant alone: its answer must not meet the fault of another cell.

    Tells of each one that did not go as if nothing had happened.
    """
    cells = list(cells)
    grants = [[cell] for cell in cells if cell.step == "grant"]
    for group in ([cell for cell in cells if cell.step != "grant"], *grants):
        await _run_at_once(site, worker, group, within_s=within_s)


async def _run_at_once(site: Site, worker: Machine, cells: Iterable[Cell], *, within_s: float) -> None:
    jobs = {cell: site.prepare(worker) for cell in cells}
    strikes = {cell: cell.arm(site.link, job) for cell, job in jobs.items()}
    # A poll that is parked already would bring the grant past its fault.
    polls = site.link.seen.count("POST", "/v1/poll$")
    await site.link.cut(Cut.RESET)
    await site.link.restore()
    await eventually(lambda: site.link.seen.count("POST", "/v1/poll$") > polls, timeout_s=30, what="a new poll")
    for job in jobs.values():
        await site.publish(job)
    found = await asyncio.gather(*(_harm(site, worker, job, strikes[cell], within_s) for cell, job in jobs.items()))
    harmed = {f"{cell.step}: {cell.way}": harm for cell, harm in zip(jobs, found, strict=True) if harm}
    assert not harmed, harmed


async def _harm(site: Site, worker: Machine, job: Job, strike: Strike, within_s: float) -> str | None:
    """What went wrong with a job; None if nothing did."""
    try:
        record = await site.ended(job, within_s=within_s)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
        # The record ends before the answer that tells of it is on its way.
        await eventually(strike.happened.is_set, what="the fault meets its call")
        assert_happened_once(site, job)
        is_complete = partial(log_is_complete, site, worker, job, lines=60)
        await eventually(is_complete, timeout_s=within_s, what="complete log")
    except AssertionError as error:
        return f"{job.id}: {error}"
    return None


@SHARED
async def test_a_fault_at_each_step_harms_no_task(site: Site, worker: Machine) -> None:
    await _run_cells(site, worker, CHOSEN)


@pytest.mark.soak
@pytest.mark.timeout(600)
@SHARED
@pytest.mark.parametrize("way", WAYS)
async def test_a_fault_at_every_step_harms_no_task(site: Site, worker: Machine, way: str) -> None:
    """A connection that is silent for good is given up by time-outs of the agent: 30 s, polls 65 s, tasks 75 s."""
    cells = [cell for step in STEPS if (cell := Cell(step, way)).makes_sense]
    await _run_cells(site, worker, cells, within_s=200 if way in SILENT else 90)


def test_the_chosen_cells_have_each_step_and_each_way() -> None:
    assert {cell.step for cell in CHOSEN} == set(STEPS)
    assert {cell.way for cell in CHOSEN} == set(WAYS) - set(SILENT)
    assert all(cell.makes_sense for cell in CHOSEN)
    lost = {
        point: {cell.step for cell in CHOSEN if WAYS[cell.way][1] is point and not cell.way.startswith("repeated")}
        for point in Point
    }
    assert lost[Point.REQUEST] == set(STEPS) - {"grant"}
    assert lost[Point.ANSWER] == set(STEPS) - {"poll"}  # the answer to a poll is the grant
