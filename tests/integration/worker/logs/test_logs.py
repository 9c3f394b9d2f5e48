"""Logs reach the relay while they grow, and whole."""

import os
import random
from collections.abc import Callable
from time import monotonic

import pytest
from aiohttp import web
from typing_extensions import override

from edge_schemas.life.model import JobState
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import MAX_CHUNK_BYTES
from edge_worker.jobs.driver import JobDriver
from edge_worker.logs import upload_loop
from edge_worker.logs.upload_loop import MIN_CHUNK_BYTES, LogUploader
from edge_worker.relay.link import Link
from edge_worker.settings import Settings
from edge_worker.state.job_dir import JobDir
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, html_page, problem_answer
from support.worker.agent import NAME, open_client, running_agent
from support.worker.fake_runtime import script_job
from support.worker.local_jobs import ended_job


async def test_a_line_is_there_within_two_seconds_while_the_task_runs(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('first', time.time()); call('GET', 'variables/go')")
    async with running_agent(relay, settings):
        arrived = 0.0

        async def answer(_: SeenCall) -> web.Response:
            nonlocal arrived
            began = monotonic()
            await relay.until(lambda: b"first" in relay.logs.get(job.id, b""))
            arrived = monotonic() - began
            return execution_answer(200, {})

        relay.execution = answer
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert arrived < 2


async def test_large_logs_are_cut_into_chunks_that_the_wire_allows(relay: FakeRelay, settings: Settings) -> None:
    packs_well = b"the same line again\n" * 100_000
    packs_badly = random.Random(7).randbytes(700_000)
    held = _held(relay, settings, packs_well + packs_badly)
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    assert bytes(relay.logs[held.id]) == held.dir.log.read_bytes()
    assert max(relay.wire_sizes) <= MAX_CHUNK_BYTES
    assert sum(relay.wire_sizes) < len(packs_well) / 10 + len(packs_badly) * 1.1


async def test_the_upload_continues_at_the_offset_that_was_kept(relay: FakeRelay, settings: Settings) -> None:
    held = _held(relay, settings, b"old\nnew\n")
    relay.logs[held.id] = bytearray(b"old\n")
    held.dir.put_log_offset(4)
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    assert relay.logs[held.id] == b"old\nnew\n"
    assert len(relay.wire_sizes) == 1
    assert held.dir.log_offset() == 8


async def test_a_lost_offset_costs_a_repeat_and_no_line(relay: FakeRelay, settings: Settings) -> None:
    held = _held(relay, settings, b"old\nnew\n")
    relay.logs[held.id] = bytearray(b"old\n")
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    assert relay.logs[held.id] == b"old\nnew\n"


async def test_it_rewinds_to_where_the_relay_has_the_log(relay: FakeRelay, settings: Settings) -> None:
    held = _held(relay, settings, b"one\ntwo\nthree\n")
    held.dir.put_log_offset(8)
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    assert relay.logs[held.id] == b"one\ntwo\nthree\n"


async def test_a_log_that_is_often_rewound_and_moves_on_is_uploaded(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay loses the newest chunk again and again; each upload gets further."""
    monkeypatch.setattr(upload_loop, "FIRST_PAUSE_S", 0.02)
    held = _held(relay, settings, b"line\n")
    calls = lost = 0

    def lose(_: web.Request) -> web.Response | None:
        nonlocal calls, lost
        calls += 1
        if lost < 8:
            with held.dir.log.open("ab") as file:
                file.write(b"another line\n")
            if calls % 2 == 0:
                lost += 1
                del relay.logs[held.id][-3:]
        return None

    relay.fault = lose
    async with open_client(relay) as client:
        await LogUploader(client, Link()).follow(held)
    assert lost == 8
    assert bytes(relay.logs[held.id]) == held.dir.log.read_bytes()


async def test_a_relay_that_wants_no_more_of_a_log_ends_the_upload(relay: FakeRelay, settings: Settings) -> None:
    held = _held(relay, settings, os.urandom(64))
    async with open_client(relay) as client:
        relay.fault = lambda _: problem_answer(ErrorCode.JOB_ENDED)
        await LogUploader(client, Link()).follow(held)
    assert relay.logs[held.id] == b""


def _problem_of_a_gateway() -> web.Response:
    return web.Response(status=413, text='{"title": "too large"}', content_type="application/problem+json")


@pytest.mark.parametrize("answer", [lambda: html_page(413), _problem_of_a_gateway])
async def test_chunks_shrink_to_what_a_middlebox_lets_through_and_stay_small(
    relay: FakeRelay, settings: Settings, answer: Callable[[], web.Response]
) -> None:
    limit, refused = 60_000, 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal refused
        is_too_large = int(request.headers["Content-Length"]) > limit
        refused += is_too_large
        return answer() if is_too_large else None

    relay.fault = fault
    first, second = (_held(relay, settings, random.Random(seed).randbytes(700_000)) for seed in (1, 2))
    async with open_client(relay) as client:
        uploader = LogUploader(client, Link())
        await uploader.follow(first)
        seen = refused
        await uploader.follow(second)
    assert bytes(relay.logs[first.id]) == first.dir.log.read_bytes()
    assert bytes(relay.logs[second.id]) == second.dir.log.read_bytes()
    assert 0 < seen <= 7
    assert refused == seen


async def test_a_small_chunk_that_is_called_too_large_waits_for_better_times(
    relay: FakeRelay, settings: Settings
) -> None:
    refused = 0

    def fault(_: web.Request) -> web.Response | None:
        nonlocal refused
        refused += 1
        return html_page(413) if refused <= 3 else None

    relay.fault = fault
    held = _held(relay, settings, b"x" * MIN_CHUNK_BYTES)
    link = _Pauses()
    async with open_client(relay) as client:
        await LogUploader(client, link).follow(held)
    assert bytes(relay.logs[held.id]) == held.dir.log.read_bytes()
    assert len(link.pauses) == 3


async def test_a_full_log_takes_what_still_fits_and_shortens_no_other(relay: FakeRelay, settings: Settings) -> None:
    room = 100_000

    def fault(request: web.Request) -> web.Response | None:
        size, job = int(request.headers["Content-Length"]), request.path.split("/")[3]
        is_full = job == full.id and int(request.query["offset"]) + size > room
        return problem_answer(ErrorCode.PAYLOAD_TOO_LARGE) if is_full else None

    relay.fault = fault
    full, other = (_held(relay, settings, random.Random(seed).randbytes(200_000)) for seed in (1, 2))
    async with open_client(relay) as client:
        uploader = LogUploader(client, Link())
        await uploader.follow(full)
        relay.wire_sizes.clear()
        await uploader.follow(other)
    assert room - MIN_CHUNK_BYTES <= len(relay.logs[full.id]) <= room
    assert relay.wire_sizes == [200_000]


class _Pauses(Link):
    """Does not wait, but notes for how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    @override
    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)


def _held(relay: FakeRelay, settings: Settings, log: bytes) -> JobDriver:
    job = script_job("")
    job_dir = JobDir(settings.state_dir / job.id)
    job_dir.path.mkdir(parents=True)
    job_dir.log.write_bytes(log)
    relay.hand_out(job, NAME)
    return ended_job(job, job_dir)
