"""The whole way is cut while tasks run: between worker and relay, or between relay and NATS."""

import time
from functools import partial
from itertools import pairwise

import pytest

from edge_schemas.life.model import Verdict
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from support.nats.server import eventually
from support.network.link import BaseLink, Cut
from support.system.site import Machine, Site, assert_happened_once, log_is_complete

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

TOLERANCE_S = 10.0
SHORT = OfflinePolicy(tolerance_s=TOLERANCE_S)


async def _survives(site: Site, worker: Machine, link: BaseLink, cut: Cut, *, keeps: bool, lasts_s: float) -> None:
    """Of three tasks one ends before the cut is over, one after it, and one has its whole life around it."""
    during, after = (site.prepare(worker, "until_told", result=n) for n in (1, 2))
    around = site.prepare(worker, pause_s=lasts_s / 2)
    for job in (during, after, around):
        await site.publish(job)
    for job in (during, after, around):
        await site.began(job)
    await link.cut(cut, keeps=keeps)
    cut_at = time.monotonic()
    site.flag(during.id).touch()
    await eventually(lambda: site.ledger(during.id)[-1].what == "end", timeout_s=60, what="an end during the cut")
    await eventually(lambda: time.monotonic() - cut_at > lasts_s, timeout_s=60)
    await link.restore()
    site.flag(after.id).touch()
    for job in (during, after, around):
        record = await site.ended(job, within_s=200)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
        await eventually(partial(log_is_complete, site, worker, job), timeout_s=100, what="complete log")
    assert_happened_once(site, around)
    for job in (during, after):
        assert [line.what for line in site.ledger(job.id) if line.what != "tick"] == ["begin", "end"]
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 1


@pytest.mark.parametrize(
    ("cut", "keeps"),
    [
        pytest.param(Cut.BLACK_HOLE, True, id="black hole"),
        pytest.param(Cut.REFUSE, False, id="refused", marks=pytest.mark.soak),
        pytest.param(Cut.RESET, False, id="reset", marks=pytest.mark.soak),
        pytest.param(Cut.BLACK_HOLE, False, id="black hole that ends connections", marks=pytest.mark.soak),
    ],
)
async def test_tasks_do_not_notice_a_lost_relay(site: Site, worker: Machine, cut: Cut, *, keeps: bool) -> None:
    await _survives(site, worker, site.link, cut, keeps=keeps, lasts_s=2)


@pytest.mark.parametrize(
    ("cut", "keeps"),
    [
        pytest.param(Cut.RESET, False, id="reset", marks=pytest.mark.soak),
        pytest.param(Cut.BLACK_HOLE, True, id="black hole", marks=pytest.mark.soak),
        pytest.param(Cut.REFUSE, False, id="refused", marks=pytest.mark.soak),
        pytest.param(Cut.BLACK_HOLE, False, id="black hole that ends connections", marks=pytest.mark.soak),
    ],
)
async def test_tasks_do_not_notice_a_lost_broker(site: Site, worker: Machine, cut: Cut, *, keeps: bool) -> None:
    await _survives(site, worker, site.nats_link, cut, keeps=keeps, lasts_s=2)


async def _ticking(site: Site, worker: Machine, number: int, offline: OfflinePolicy) -> list[Job]:
    jobs = [site.prepare(worker, "until_told", result=n, offline=offline) for n in range(number)]
    for job in jobs:
        await site.publish(job)
    for job in jobs:
        await site.began(job)
    return jobs


async def test_a_silence_beyond_the_tolerance_freezes_user_code_before_the_centre_gives_up(
    site: Site, worker: Machine
) -> None:
    """The ledgers show that the retry, dispatched the moment the job is lost, never runs next to the first try."""
    [first] = await _ticking(site, worker, 1, SHORT)
    cut_at = time.time()
    await site.link.cut(Cut.BLACK_HOLE)
    lost = await site.ended(first)
    assert lost.outcome is not None
    lost_at = lost.outcome.ended_at.timestamp()
    ticks = [line.at for line in site.ledger(first.id)]
    # The link comes back with the retry: a first try that still ran would show, and the retry begins at once.
    retry = site.prepare(worker, "until_told", result=2)
    await site.publish(retry)
    await site.link.restore()
    await site.began(retry)
    site.flag(first.id).touch()
    site.flag(retry.id).touch()
    record = await site.ended(retry)
    assert lost.outcome.verdict is Verdict.LOST
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.SUCCEEDED
    assert max(ticks) < lost_at - 0.5, "user code ran until the centre gave it up"
    assert max(ticks) == max(line.at for line in site.ledger(first.id)), "user code ran on"
    assert lost_at - cut_at < TOLERANCE_S + 5
    assert site.jobs[first.id].taken["PATCH task-instances/self/state"] == 0


@pytest.mark.parametrize(
    "part",
    [
        "way to the broker",
        # nats-py leaves the connection open that it cannot replace.
        pytest.param("broker", marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")),
        "relay",
    ],
)
@pytest.mark.soak
async def test_an_outage_of_the_centre_beyond_the_tolerance_loses_nobody(
    site: Site, worker: Machine, part: str
) -> None:
    """Two continue meanwhile; one stands still while its worker cannot know better, and then continues, too."""
    jobs = await _ticking(site, worker, 2, OfflinePolicy(tolerance_s=TOLERANCE_S, on_silence=OnSilence.CONTINUE))
    [careful] = await _ticking(site, worker, 1, SHORT)
    began = time.monotonic()
    match part:
        case "way to the broker":
            await site.nats_link.cut(Cut.REFUSE)
        case "broker":
            await site.server.stop(kill=True)
        case _:
            await site.stop_relay()
    await eventually(lambda: time.monotonic() - began > TOLERANCE_S + 3, timeout_s=60)
    site.flag(jobs[0].id).touch()
    await eventually(lambda: site.ledger(jobs[0].id)[-1].what == "end", timeout_s=60, what="an end meanwhile")
    match part:
        case "way to the broker":
            await site.nats_link.restore()
        case "broker":
            await site.server.start()
        case _:
            await site.start_relay()
    # The grace after the outage is over for a worker that would have to be heard again by now.
    await site.ended(jobs[0])
    back_at = time.time()
    await eventually(lambda: site.ledger(careful.id)[-1].at > back_at, timeout_s=30, what="the careful one continues")
    for job in (jobs[1], careful):
        site.flag(job.id).touch()
    for job in (*jobs, careful):
        record = await site.ended(job)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 1
        assert [line.what for line in site.ledger(job.id) if line.what != "tick"] == ["begin", "end"]
    if part == "relay":
        # With NATS away a poll is still answered, though not always within the half of so short a tolerance.
        assert b"the task continues" in worker.local_log(careful.id)
        ticks = [line.at for line in site.ledger(careful.id)]
        stood_s = max(after - before for before, after in pairwise(ticks))
        assert stood_s > TOLERANCE_S / 2
    await eventually(partial(log_is_complete, site, worker, careful), timeout_s=100, what="complete log")
