"""Published bundles: fetched once for all jobs that wait, over links that break, and refused if they are damaged."""

import asyncio
import json
import os
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from edge_schemas.bundles.pieces import PIECE_BYTES, pack_piece
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from edge_worker.agent import worker
from edge_worker.bundles import fetch
from edge_worker.jobs.lease import Lease
from edge_worker.settings import Settings
from edge_worker.task_host.lease import now
from support.relay.bundles import MadeBundle, make_bundle
from support.relay.fake_relay import FakeRelay, problem_answer
from support.worker.agent import Agent, eventually, running_agent
from support.worker.fake_runtime import script_job

_FILES = {"dags/a.py": b"import lib\n" * 50, "lib/__init__.py": b"VALUE = 1\n", "large": os.urandom(2 * PIECE_BYTES)}


def _job(bundle: MadeBundle, script: str = "print('ran')") -> Job:
    return bundle.run_by(script_job(script))


def _lines(relay: FakeRelay, job: Job) -> str:
    """What the worker has written into the log of a task."""
    found = [line for line in relay.logs.get(job.id, b"").splitlines() if line.startswith(b"{")]
    return "\n".join(json.loads(line)["event"] for line in found)


def _content(agent: Agent, job: Job) -> dict[str, bytes]:
    tree = agent.runtime.codes[job.id]
    assert tree is not None
    found = (path for path in tree.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {str(path.relative_to(tree)): path.read_bytes() for path in found}


async def _ended(relay: FakeRelay, *jobs: Job) -> None:
    await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in jobs))


def _pieces_unavailable(relay: FakeRelay, bundle: MadeBundle, after: int = 0) -> None:
    """Requests for pieces are refused for a while, all but the first ones."""
    seen = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal seen
        if request.path != bundle.pieces_path:
            return None
        seen += 1
        return problem_answer(ErrorCode.BROKER_UNAVAILABLE) if seen > after else None

    relay.fault = fault


async def test_job_runs_in_the_folder_of_its_version(relay: FakeRelay, settings: Settings) -> None:
    bundle = make_bundle(_FILES, name="team a/däg")
    relay.bundles.publish(bundle)
    first, second = _job(bundle), _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(first)
        await _ended(relay, first)
        asked = len(relay.bundles.asked)
        await relay.publish(second)
        await _ended(relay, second)
    assert _content(agent, first) == _FILES
    assert agent.runtime.codes[second.id] == agent.runtime.codes[first.id]
    assert len(relay.bundles.asked) == asked
    lines = _lines(relay, first)
    assert f"fetches version {bundle.digest[:12]} of bundle 'team a/däg'" in lines
    assert f"runs version {bundle.digest[:12]} of bundle 'team a/däg', which was fetched; the run names no" in lines
    assert "which is on this machine" in _lines(relay, second)


async def test_job_without_a_published_bundle_gets_no_folder(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('ran')")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await _ended(relay, job)
    assert agent.runtime.codes == {job.id: None}


async def test_eight_jobs_wait_for_one_fetch(relay: FakeRelay, settings: Settings) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    _pieces_unavailable(relay, bundle)
    jobs = [_job(bundle) for _ in range(8)]
    async with running_agent(relay, settings.model_copy(update={"slots": 8})) as agent:
        for job in jobs:
            await relay.publish(job)
        await relay.until(lambda: all("waits for the relay" in _lines(relay, job) for job in jobs))
        relay.fault = lambda _: None
        await _ended(relay, *jobs)
    assert [len(request.pieces) for request in relay.bundles.asked] == [len(bundle.frames)]
    assert set(agent.runtime.codes) == {job.id for job in jobs}
    assert len(set(agent.runtime.codes.values())) == 1


async def test_changed_file_is_all_that_is_fetched(relay: FakeRelay, settings: Settings) -> None:
    old, new = make_bundle(_FILES), make_bundle({**_FILES, "lib/__init__.py": b"VALUE = 2\n"})
    for bundle in (old, new):
        relay.bundles.publish(bundle)
    before, after = _job(old), _job(new)
    async with running_agent(relay, settings) as agent:
        await relay.publish(before)
        await _ended(relay, before)
        relay.bundles.asked.clear()
        await relay.publish(after)
        await _ended(relay, after)
    assert [request.pieces for request in relay.bundles.asked] == [tuple(set(new.frames) - set(old.frames))]
    assert _content(agent, before) == _FILES
    assert _content(agent, after)["lib/__init__.py"] == b"VALUE = 2\n"


async def test_fetch_makes_progress_on_a_link_that_is_always_cut(relay: FakeRelay, settings: Settings) -> None:
    bundle = make_bundle({"large": os.urandom(3 * PIECE_BYTES), "small": b"1"})
    relay.bundles.publish(bundle)
    relay.bundles.cut_after = [200_000] * 8
    job = _job(bundle)
    async with running_agent(relay, settings):
        await relay.publish(job)
        await _ended(relay, job)
    assert relay.bundles.cut_after == []
    assert any(request.offset > 0 for request in relay.bundles.asked)
    assert len(relay.bundles.asked) == 9, "each cut costs one request, and nothing is fetched twice"
    assert "refused" not in _lines(relay, job)


def _flip(relay: FakeRelay, bundle: MadeBundle) -> str:
    piece = next(iter(bundle.frames))
    frame = bytearray(relay.bundles.frames[piece])
    frame[len(frame) // 2] ^= 1
    relay.bundles.frames[piece] = bytes(frame)
    return "piece"


def _truncate(relay: FakeRelay, bundle: MadeBundle) -> str:
    piece = next(iter(bundle.frames))
    relay.bundles.frames[piece] = relay.bundles.frames[piece][:-1]
    return "piece"


def _swap(relay: FakeRelay, bundle: MadeBundle) -> str:
    one, other = list(bundle.frames)[:2]
    relay.bundles.frames.update({one: bundle.frames[other], other: bundle.frames[one]})
    return "piece"


def _inflate(relay: FakeRelay, bundle: MadeBundle) -> str:
    piece = next(iter(bundle.frames))
    relay.bundles.frames[piece] = pack_piece(bytes(1 << 28))
    return "piece"


def _oversize(relay: FakeRelay, bundle: MadeBundle) -> str:
    piece = next(iter(bundle.frames))
    relay.bundles.frames[piece] = bytes(10 * PIECE_BYTES)
    return "a frame of"


DAMAGES = [_flip, _truncate, _swap, _inflate, _oversize]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_piece_never_runs_and_fails_the_task_with_its_reason(
    relay: FakeRelay,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[FakeRelay, MadeBundle], str],
) -> None:
    monkeypatch.setattr(fetch, "DAMAGED_PAUSE_S", 0.01)
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    reason = damage(relay, bundle)
    job = _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await _ended(relay, job)
    assert agent.runtime.launched == []
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.FAILED
    assert outcome.reason is not None
    assert "5 answers were not what was asked for" in outcome.reason
    assert reason in outcome.reason
    assert reason in _lines(relay, job)
    assert not (settings.state_dir / "bundles" / "versions" / bundle.digest).exists()


async def test_piece_that_was_damaged_once_is_fetched_again(relay: FakeRelay, settings: Settings) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    _flip(relay, bundle)
    job = _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: "is refused and fetched again" in _lines(relay, job))
        relay.bundles.publish(bundle)
        await _ended(relay, job)
    assert _content(agent, job) == _FILES


@pytest.mark.parametrize("what", ["other", "garbage", "cut"])
async def test_manifest_of_something_else_is_refused(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(fetch, "DAMAGED_PAUSE_S", 0.01)
    bundle, other = make_bundle(_FILES), make_bundle({"evil.py": b"import os\n"})
    for one in (bundle, other):
        relay.bundles.publish(one)
    frames = {"other": other.frame, "garbage": b"\0" * 100, "cut": bundle.frame[:-3]}
    relay.bundles.manifests[bundle.digest] = frames[what]
    job = _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await _ended(relay, job)
    assert agent.runtime.launched == []
    assert "the manifest is refused" in _lines(relay, job)


@pytest.mark.parametrize(
    ("code", "verdict"), [(ErrorCode.FORBIDDEN, Verdict.FAILED), (ErrorCode.NOT_FOUND, Verdict.FAILED)]
)
async def test_refusal_of_the_relay_fails_the_task_with_its_reason(
    relay: FakeRelay, settings: Settings, code: ErrorCode, verdict: Verdict
) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    relay.bundles.refuse_next = [EdgeError(code, "it was removed")]
    job = _job(bundle)
    async with running_agent(relay, settings):
        await relay.publish(job)
        await _ended(relay, job)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.verdict is verdict
    assert f"the relay refuses it: {code}: it was removed" in (outcome.reason or "")
    assert "it was removed" in _lines(relay, job)


async def test_stopped_job_leaves_the_fetch_to_the_others(relay: FakeRelay, settings: Settings) -> None:
    """The fetch was made in the name of the first job; it continues in the name of the other one."""
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    _pieces_unavailable(relay, bundle)
    first, second = _job(bundle), _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(first)
        await relay.until(lambda: "waits for the relay" in _lines(relay, first))
        await relay.publish(second)
        await relay.until(lambda: "waits for the relay" in _lines(relay, second))
        await relay.withdraw(first.id)
        await _ended(relay, first)
        assert relay.state(second.id) is JobState.RUNNING
        relay.fault = lambda _: None
        await _ended(relay, second)
    assert {request.job for request in relay.bundles.asked} == {second.id}
    assert agent.runtime.launched == [second.id]


async def test_fetch_ends_with_the_last_job_that_waits_and_continues_with_the_next(
    relay: FakeRelay, settings: Settings
) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    relay.bundles.cut_after = [300_000]
    _pieces_unavailable(relay, bundle, after=1)
    first, second = _job(bundle), _job(bundle)
    async with running_agent(relay, settings):
        await relay.publish(first)
        await relay.until(lambda: "waits for the relay" in _lines(relay, first))
        await relay.withdraw(first.id)
        await _ended(relay, first)
        asked = relay.requests[bundle.pieces_path]
        await relay.until(lambda: relay.holds_a_poll)
        assert relay.requests[bundle.pieces_path] == asked
        relay.fault = lambda _: None
        await relay.publish(second)
        await _ended(relay, second)
    assert relay.bundles.asked[-1].offset > 0


async def test_job_whose_fence_passes_while_its_code_is_fetched_asks_before_it_is_launched(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = 0.0
    monkeypatch.setattr(worker, "Lease", partial(Lease, clock=lambda: now() + ahead_s))
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    _pieces_unavailable(relay, bundle)
    job = _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: "waits for the relay" in _lines(relay, job))
        await relay.stop()
        ahead_s = 100_000
        await agent.until_log(job.id, b"freezes this task")
        assert agent.runtime.launched == []
        relay.fault = lambda _: None
        await relay.start()
        await _ended(relay, job)
    assert relay.requests[f"/v1/jobs/{job.id}/start"] == 2
    assert agent.runtime.launched == [job.id]


async def test_job_without_room_waits_again_and_the_worker_pauses(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    job = _job(bundle)
    monkeypatch.setattr("edge_worker.bundles.store.disk_usage", lambda _: Namespace(free=settings.disk_reserve_bytes))
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: bool(relay.finishes) and relay.polls[-1].free == 0)
        assert relay.state(job.id) is JobState.WAITING
    assert agent.runtime.launched == []
    assert "too little room" in _lines(relay, job)


async def test_larger_version_than_the_owner_allows_fails(relay: FakeRelay, settings: Settings) -> None:
    bundle = make_bundle({"large": bytes(2 << 20)})
    relay.bundles.publish(bundle)
    job = _job(bundle)
    async with running_agent(relay, settings.model_copy(update={"bundle_max_bytes": 1 << 20})):
        await relay.publish(job)
        await _ended(relay, job)
    assert "more than bundle_max_bytes = 1048576" in _lines(relay, job)
    assert relay.bundles.asked == []


async def test_unused_version_is_removed_after_the_jobs(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_worker.bundles.provider.PRUNE_PAUSE_S", 0.01)
    old, new = make_bundle({"a": b"1"}), make_bundle({"a": b"2"})
    for bundle in (old, new):
        relay.bundles.publish(bundle)
    first = _job(old)
    second = _job(new, "print('up'); time.sleep(60)")
    async with running_agent(relay, settings.model_copy(update={"bundle_keep_days": 0})) as agent:
        await relay.publish(second)
        await agent.until_log(second.id, b"up")
        await relay.publish(first)
        await _ended(relay, first)
        versions = settings.state_dir / "bundles" / "versions"
        await eventually(lambda: [path.name for path in versions.iterdir()] == [new.digest])
        await relay.withdraw(second.id)
        await _ended(relay, second)
        await eventually(lambda: not list(versions.iterdir()))


async def test_version_that_a_task_has_changed_is_made_again_for_the_next_one(
    relay: FakeRelay, settings: Settings
) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    first, second = _job(bundle), _job(bundle)
    async with running_agent(relay, settings) as agent:
        await relay.publish(first)
        await _ended(relay, first)
        relay.bundles.asked.clear()
        tree = agent.runtime.codes[first.id]
        assert tree is not None
        _write(tree / "lib" / "__init__.py", b"VALUE = 'changed here'\n")
        await relay.publish(second)
        await _ended(relay, second)
    assert _content(agent, second) == _FILES
    assert [len(request.pieces) for request in relay.bundles.asked] == [1], "the other files are still good"


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


async def test_agent_that_leaves_while_it_fetches_continues_at_its_next_start(
    relay: FakeRelay, settings: Settings
) -> None:
    bundle = make_bundle(_FILES)
    relay.bundles.publish(bundle)
    relay.bundles.cut_after = [300_000]
    _pieces_unavailable(relay, bundle, after=1)
    job = _job(bundle)
    async with running_agent(relay, settings.model_copy(update={"drain_timeout_s": 0.1})) as agent:
        await relay.publish(job)
        await relay.until(lambda: "waits for the relay" in _lines(relay, job))
        agent.drain()
        await asyncio.wait_for(agent.until_ended(), 20)
    relay.fault = lambda _: None
    assert (settings.state_dir / "bundles" / "partial" / bundle.digest).exists()
