"""Logs reach the relay while they grow, and whole."""

import os
import random
from time import monotonic

from aiohttp import web

from edge_schemas.errors import ErrorCode
from edge_schemas.logs import MAX_CHUNK_BYTES
from edge_schemas.records import JobState
from edge_worker.job_dir import JobDir
from edge_worker.jobs import HeldJob
from edge_worker.link import Link
from edge_worker.settings import Settings
from edge_worker.upload_loop import LogUploader
from support.fake_relay import FakeRelay, SeenCall, execution_answer, problem_answer
from support.fake_runtime import script_job
from support.worker import open_client, running_agent


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


async def test_the_upload_goes_on_at_the_offset_that_was_kept(relay: FakeRelay, settings: Settings) -> None:
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


async def test_a_relay_that_wants_no_more_of_a_log_ends_the_upload(relay: FakeRelay, settings: Settings) -> None:
    held = _held(relay, settings, os.urandom(64))
    async with open_client(relay) as client:
        relay.fault = lambda _: problem_answer(ErrorCode.JOB_ENDED)
        await LogUploader(client, Link()).follow(held)
    assert held.id not in relay.logs


def _held(relay: FakeRelay, settings: Settings, log: bytes) -> HeldJob:
    job = script_job("")
    job_dir = JobDir(settings.state_dir / job.id)
    job_dir.path.mkdir(parents=True)
    job_dir.log.write_bytes(log)
    held = HeldJob(job, job_dir)
    held.gone.set()
    return held
