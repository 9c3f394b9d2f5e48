"""What was dropped of a log is missing in the centre in one place, and a line there says so."""

import json
import random
from pathlib import Path

import pytest
from aiohttp import web

from edge_schemas.wire.errors import ErrorCode
from edge_worker.jobs.driver import JobDriver
from edge_worker.logs import spool, upload_loop
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.relay.link import Link
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.log_file import CappedLog, drop, read_dropped
from support.relay.fake_relay import FakeRelay, html_page, problem_answer
from support.worker.agent import NAME, open_client
from support.worker.fake_runtime import script_job
from support.worker.local_jobs import ended_job

MISSING = "bytes of this log are missing here"


class _Impatient(Link):
    """Tries again at once."""

    async def pause(self, delay_s: float) -> None:
        return


@pytest.fixture
def held(tmp_path: Path, relay: FakeRelay) -> JobDriver:
    """A job whose processes are gone."""
    job = script_job("")
    job_dir = JobDir(tmp_path / job.id)
    job_dir.path.mkdir()
    relay.hand_out(job, NAME)
    return ended_job(job, job_dir)


def _lines(first: int, last: int) -> list[str]:
    return [f"line {number} {'x' * 200}" for number in range(first, last)]


def _print(held: JobDriver, first: int, last: int, keep: int = 2**30) -> None:
    with CappedLog(held.dir.log, keep) as log:
        for text in _lines(first, last):
            log.write(json.dumps({"event": text}).encode() + b"\n")


def _events(relay: FakeRelay, held: JobDriver) -> list[str]:
    """What a reader sees; every line must be one that can be read."""
    return [json.loads(line)["event"] for line in relay.logs[held.id].splitlines() if line]


async def _upload(relay: FakeRelay, held: JobDriver) -> None:
    async with open_client(relay) as client:
        await LogUploader(client, _Impatient()).follow(held)


async def test_log_that_grew_too_large_without_a_link_arrives_with_a_gap(relay: FakeRelay, held: JobDriver) -> None:
    _print(held, 0, 100)
    await _upload(relay, held)
    before = len(relay.logs[held.id])
    _print(held, 100, 10_000, keep=512 * 1024)
    dropped = read_dropped(held.dir.path)
    assert dropped > before
    await _upload(relay, held)
    events = _events(relay, held)
    assert events[:100] == _lines(0, 100)
    assert events[100].startswith(f"{dropped - before} {MISSING}")
    rest = events[101:]
    assert rest == _lines(10_000 - len(rest), 10_000)
    assert len(rest) > 1000
    # As after a restart of the agent: the same reckoning, nothing to send.
    _print(held, 10_000, 10_010)
    await _upload(relay, held)
    assert _events(relay, held) == events + _lines(10_000, 10_010)


@pytest.mark.parametrize("share", [1.0, 0.5])
async def test_gap_begins_where_the_relay_has_the_log_although_an_answer_was_lost(
    relay: FakeRelay, held: JobDriver, share: float
) -> None:
    """A line put where the agent believes the relay to be would be trimmed there, and as much of what follows it."""
    _print(held, 0, 1000)
    size = held.dir.log.stat().st_size
    arrived = held.dir.log.read_bytes()[: int(size * share)]
    relay.logs[held.id] = bytearray(arrived)
    drop(held.dir.log, size)
    _print(held, 1000, 1010)
    await _upload(relay, held)
    log = bytes(relay.logs[held.id])
    assert log[: len(arrived)] == arrived
    lines = [json.loads(line)["event"] for line in log[len(arrived) :].splitlines() if line]
    missing = [] if share == 1 else [line for line in lines[:1] if line.startswith(f"{size - len(arrived)} {MISSING}")]
    assert lines == missing + _lines(1000, 1010)
    assert len(missing) == (share < 1)


async def test_log_that_is_dropped_to_its_end_says_so(relay: FakeRelay, held: JobDriver) -> None:
    _print(held, 0, 100)
    drop(held.dir.log, held.dir.log.stat().st_size)
    await _upload(relay, held)
    (event,) = _events(relay, held)
    assert event.startswith(f"{held.dir.log.stat().st_size} {MISSING}")


async def test_relay_that_lost_what_was_dropped_here_gets_the_rest(relay: FakeRelay, held: JobDriver) -> None:
    _print(held, 0, 200)
    await _upload(relay, held)
    del relay.logs[held.id][10_000:]
    size = held.dir.log.stat().st_size
    drop(held.dir.log, size)
    _print(held, 200, 210)
    await _upload(relay, held)
    lines = bytes(relay.logs[held.id]).splitlines()
    assert any(MISSING.encode() in line for line in lines)
    assert [json.loads(line)["event"] for line in lines[-10:]] == _lines(200, 210)


async def test_log_longer_than_the_centre_keeps_ends_with_a_line_that_says_so(
    relay: FakeRelay, held: JobDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "CUT_AT_BYTES", 50_000)
    _print(held, 0, 1000)
    await _upload(relay, held)
    log = bytes(relay.logs[held.id])
    assert log[:50_000] == held.dir.log.read_bytes()[:50_000]
    assert json.loads(log[50_000:])["event"].startswith("The log continues, but the centre keeps no more of it")
    requests = len(relay.wire_sizes)
    _print(held, 1000, 1100)
    await _upload(relay, held)
    assert len(relay.wire_sizes) == requests


async def test_log_that_an_earlier_hold_has_filled_gets_its_line_as_well(relay: FakeRelay, held: JobDriver) -> None:
    def fault(request: web.Request) -> web.Response | None:
        end = int(request.query["offset"]) + int(request.headers["Content-Length"])
        return problem_answer(ErrorCode.PAYLOAD_TOO_LARGE) if end > 60_000 else None

    relay.fault = fault
    # Bytes that compression does not make fewer.
    held.dir.log.write_bytes(random.Random(7).randbytes(200_000))
    await _upload(relay, held)
    log = bytes(relay.logs[held.id])
    assert json.loads(log[log.rindex(b"\n{") :])["event"].startswith("The log continues")
    assert len(log) <= 60_000


async def test_writer_that_drops_while_the_upload_goes_on_and_off_leaves_no_torn_line(
    relay: FakeRelay, held: JobDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_loop, "FIRST_PAUSE_S", 0.02)
    answers = 0

    def fault(_: web.Request) -> web.Response | None:
        nonlocal answers
        answers += 1
        _print(held, answers * 1000, (answers + 1) * 1000, keep=300_000) if answers < 30 else None
        return html_page(502) if answers % 3 else None

    _print(held, 0, 1000, keep=300_000)
    relay.fault = fault
    await _upload(relay, held)
    seen = [event for event in relay.logs[held.id].split(b"\n") if event]
    numbers = []
    missing = 0
    for line in seen:
        try:
            event = json.loads(line)["event"]
        except ValueError:
            continue
        if MISSING in event:
            missing += 1
        else:
            numbers.append(int(event.split()[1]))
    assert numbers == sorted(set(numbers)), "in order and none twice"
    assert numbers[-1000:] == list(range(29_000, 30_000))
    assert missing > 3
    # A chunk may end within a line whose other half is then dropped.
    assert len(seen) - len(numbers) <= 2 * missing
    assert b"\0" not in relay.logs[held.id]
