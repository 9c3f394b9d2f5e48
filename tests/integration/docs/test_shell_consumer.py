"""The shell consumer of the documentation with a real relay: enrol, poll, start, work, log, finish, release, stop."""

import asyncio
import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_worker.client import AsyncProducer
from support.nats.server import eventually
from support.pages.pages import ROOT
from support.pages.queue_page import needs_programs
from support.relay.edge import Edge, running_edge
from support.relay.producers import Producer, producer

pytestmark = needs_programs

SCRIPT = ROOT / "docs/howto/consumer.sh"
QUEUE = "orders"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path / "edge") as running:
        yield running


@asynccontextmanager
async def consuming(
    edge: Edge, state: Path, command: str, path: str = os.environ["PATH"]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The script, with a shell command as its work; a test may stop it with SIGTERM."""
    token = await edge.token(queue=QUEUE)
    log = _prepare(state, token)
    process = await asyncio.create_subprocess_exec(
        *(str(SCRIPT), edge.relays[0].workers_url, str(state), "sh", "-c", command),
        env={"PATH": path, "CURL_CA_BUNDLE": str(edge.ca)},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
        assert process.returncode in {None, 143}, (state / "script.log").read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()
        log.close()


def _prepare(state: Path, token: str) -> BinaryIO:
    """The state folder, and the open log of the script."""
    state.mkdir()
    (state / "token").write_text(token)
    return (state / "script.log").open("wb")


def test_it_is_short() -> None:
    """A page may promise that it can be read at once."""
    assert len(SCRIPT.read_text().splitlines()) <= 64


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """Without this, the script would enrol, be granted a job, and stop in the middle of it."""
    found = shutil.which("curl")
    assert found is not None
    (tmp_path / "curl").symlink_to(found)
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", str(SCRIPT), "https://127.0.0.1:1", str(tmp_path), "true"),
        env={"PATH": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert (process.returncode, said) == (69, b"jq is missing\n")


@pytest.mark.timeout(90)
async def test_a_report_that_does_not_arrive_is_repeated(edge: Edge, tmp_path: Path) -> None:
    """A link that is cut for longer than curl tries must not cost the result: the work would be done again."""
    programs = tmp_path / "programs"
    programs.mkdir()
    curl = programs / "curl"
    cut = f'case "$*" in */finish*) [ -e {programs}/cut ] || {{ touch {programs}/cut; exit 7; }} ;; esac'
    curl.write_text(f'#!/bin/sh\n{cut}\nexec {shutil.which("curl")} "$@"\n')
    curl.chmod(0o755)
    shop = await producer(edge, QUEUE)
    async with consuming(edge, tmp_path / "consumer", "echo 42 > $RESULT", f"{programs}:{os.environ['PATH']}"):
        status = (await shop.status(await shop.submitted(), wait=40)).json
    assert (status["state"], status["attempt"]) == ("ended", 1)
    assert base64.b64decode(status["outcome"]["result"]["data"]) == b"42\n"
    assert (programs / "cut").exists()


@pytest.mark.timeout(90)
async def test_payloads_are_worked_on(edge: Edge, tmp_path: Path) -> None:
    """Text and bytes arrive as they are; log, result and exit code arrive at the producer."""
    shop = await producer(edge, QUEUE)
    command = 'echo "attempt $ATTEMPT of $JOB"; tr a-z A-Z >"$RESULT"; grep -q BAD "$RESULT" && exit 3; exit 0'
    async with (
        consuming(edge, tmp_path / "consumer", command),
        AsyncProducer(edge.relays[0].workers_url, token=shop.secret, ca_file=edge.ca) as jobs,
    ):
        good = await jobs.submit(QUEUE, b"meter \0 \xff 7")
        bad = await jobs.submit(QUEUE, 'bad "meter"\n')
        first = await jobs.wait(good, timeout_s=30)
        second = await jobs.wait(bad, timeout_s=30)
        log = await shop.log(good)
    assert first.outcome is not None
    assert (first.outcome.verdict, first.outcome.exit_code) == ("succeeded", 0)
    assert first.outcome.result is not None
    assert first.outcome.result.body == b"METER \0 \xff 7"
    assert second.outcome is not None
    assert (second.outcome.verdict, second.outcome.exit_code) == ("failed", 3)
    assert second.outcome.result is not None
    assert second.outcome.result.body == b'BAD "METER"\n'
    assert log.body == f"attempt 1 of {good}\n".encode()


@pytest.mark.timeout(90)
async def test_it_keeps_contact_while_it_works_and_stops_a_cancelled_job(edge: Edge, tmp_path: Path) -> None:
    shop = await producer(edge, QUEUE)
    async with consuming(edge, tmp_path / "consumer", "echo begun; exec sleep 60"):
        job = await shop.submitted()
        assert (await shop.log(job, wait=30)).body == b"begun\n"
        before = await polls(edge)
        await eventually(lambda: has_polled(edge, before), timeout_s=20, what="a poll while the job runs")
        assert (await shop.status(job)).json["state"] == "running"
        await shop.cancel(job)
        status = (await shop.status(job, wait=30)).json
    assert (status["state"], status["outcome"]["verdict"]) == ("ended", "cancelled")


@pytest.mark.timeout(90)
async def test_exit_code_75_releases_the_job_with_a_delay(edge: Edge, tmp_path: Path) -> None:
    shop = await producer(edge, QUEUE)
    async with consuming(edge, tmp_path / "consumer", "exit 75"):
        job = await shop.submitted()
        await eventually(lambda: waits_again(shop, job), timeout_s=30, what="the job waits again")
        status = (await shop.status(job)).json
    assert (status["state"], status["attempt"]) == (JobState.WAITING, 1)
    assert "not_before" in status


@pytest.mark.timeout(90)
async def test_a_stopped_consumer_leaves_neither_its_poll_nor_its_work_behind(edge: Edge, tmp_path: Path) -> None:
    """A poll of a consumer that is gone would be granted the next job, which would wait for half a minute."""
    shop = await producer(edge, QUEUE)
    state = tmp_path / "consumer"
    async with consuming(edge, state, "echo begun; exec sleep 60") as process:
        await shop.submitted()
        await eventually(lambda: b"begun" in _read(state / "log"), timeout_s=20, what="the job runs")
        process.terminate()
        assert await process.wait() == 143
        await eventually(lambda: not _members(process.pid), timeout_s=5, what="no process is left")


@pytest.mark.timeout(90)
async def test_a_stopped_consumer_that_waits_ends_at_once(edge: Edge, tmp_path: Path) -> None:
    state = tmp_path / "consumer"
    async with consuming(edge, state, "true") as process:
        await eventually(lambda: has_first_polled(edge), timeout_s=20, what="it polls")
        process.terminate()
        assert await process.wait() == 143
        await eventually(lambda: not _members(process.pid), timeout_s=5, what="no process is left")


async def has_first_polled(edge: Edge) -> bool:
    rows = (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]
    return bool(rows) and await edge.relays[0].parts.workers.get(rows[0]["worker"]) is not None


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(path.name))
    return found


async def waits_again(shop: Producer, job: str) -> bool:
    return bool((await shop.status(job)).json.get("not_before"))


async def polls(edge: Edge) -> int:
    """How often the one worker has polled."""
    [row] = (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]
    entry = await edge.relays[0].parts.workers.get(row["worker"])
    assert entry is not None
    return entry.agent.seq


async def has_polled(edge: Edge, before: int) -> bool:
    return await polls(edge) > before
