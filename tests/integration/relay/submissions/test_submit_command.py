"""`edge-relay submit` with a real relay: what it says while a job waits, and how it ends."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_relay.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from edge_schemas.wire import routes
from support.relay.agents import Agent, agent
from support.relay.edge import Edge
from support.relay.producers import producer

WITHIN_S = 30.0
OCTETS = {"Content-Type": "application/octet-stream"}
Submit = Any


class Command:
    """A run of the command in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, token: Path, relay: str, *words: str, ca: Path | None) -> "Command":
        where = ["--relay", relay, "--access-token-file", str(token)]
        where += [] if ca is None else ["--ca-file", str(ca)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_relay", "submit", "--queue", "default", *where, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def says(self) -> str:
        """The next line on standard error."""
        assert self._process.stderr is not None
        async with asyncio.timeout(WITHIN_S):
            return (await self._process.stderr.readline()).decode()

    async def ends(self) -> tuple[int | None, str, str]:
        """Exit status, standard output and the rest of standard error."""
        async with asyncio.timeout(WITHIN_S):
            out, err = await self._process.communicate()
        return self._process.returncode, out.decode(), err.decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Whatever it does."""
        self._process.kill()


@pytest.fixture
async def submit(edge: Edge, tmp_path: Path) -> Any:
    """Starts the command; what still runs at the end of the test is killed."""
    token = tmp_path / "producer.token"
    token.write_text((await producer(edge)).secret)
    started: list[Command] = []

    async def start(*words: str, relay: str = edge.relays[0].workers_url, ca: Path | None = edge.ca) -> Command:
        started.append(await Command.start(token, relay, *words, ca=ca))
        return started[-1]

    yield start
    for one in started:
        if one._process.returncode is None:
            one.kill()
            await one.ends()


async def refuse(one: Agent, times: int) -> None:
    """As a worker whose owner has not allowed the program."""
    for _ in range(times):
        [grant] = await one.grants(kinds=["command"])
        assert (await one.release(grant, reason="this worker does not run 'date'")).status == 204


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_it_says_why_a_job_waits(edge: Edge, submit: Submit, more: tuple[str, ...]) -> None:
    """A queue that nobody serves is a common mistake, and silence does not show it."""
    said = await (await submit(*more, "--", "date")).says()
    assert "waits in queue default: no worker and no consumer serves queue default" in said


async def test_a_batch_says_why_its_jobs_wait(edge: Edge, submit: Submit, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text("\n".join(json.dumps({"command": {"argv": ["date"]}}) for _ in range(2)))
    said = await (await submit("--batch", str(batch))).says()
    assert "no worker and no consumer serves queue default" in said


async def test_a_command_that_no_worker_allows_ends_the_command_line(edge: Edge, submit: Submit) -> None:
    """Its job is parked with the worker's reason; a script that waits for an operator would hang."""
    one = await agent(edge)
    running = await submit("--", "date")
    await refuse(one, 5)
    status, _, err = await running.ends()
    assert status == EXIT_FAILED
    assert "is parked, and only an operator can let it run: released 5 times, last: this worker does not run" in err


async def test_ctrl_c_waits_for_the_end_of_the_job(edge: Edge, submit: Submit) -> None:
    """What the command prints while it is stopped is shown."""
    one = await agent(edge)
    running = await submit("--", "date")
    [grant] = await one.grants(kinds=["command"])
    assert (await one.start(grant)).status == 204
    running.interrupt()
    assert "cancelling job" in await running.says()
    job = grant["job"]["id"]
    line = b'{"event": "bye", "logger": "task.stdout"}\n'
    path = f"{routes.JOB_LOG.format(job=job)}?offset=0"
    assert (await edge.call("PUT", path, one.secret, body=line, headers={**OCTETS, **one.headers})).status == 200
    assert (await one.finish(job, exit_code=143, receipt=grant["receipt"])).status == 204
    status, out, err = await running.ends()
    assert (status, out) == (EXIT_INTERRUPTED, "bye\n")
    assert f"job {job} was interrupted: cancelled" in err


async def test_a_certificate_that_is_not_trusted_ends_it_at_once(edge: Edge, submit: Submit) -> None:
    status, _, err = await (await submit("--", "date", ca=None)).ends()
    assert status == EXIT_USAGE
    assert "is not trusted" in err
    assert "--ca-file or RELAY_CA_FILE" in err


async def test_it_says_that_the_relay_does_not_answer(edge: Edge, submit: Submit) -> None:
    """It goes on for minutes, in case the relay comes back."""
    with socket.socket() as closed:
        # Bound and not listening: nobody else can take the port meanwhile.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        said = await (await submit("--", "date", relay=f"http://127.0.0.1:{port}")).says()
    assert "no answer from http://127.0.0.1" in said
    assert "is --relay right? It is tried again for 15 minutes" in said
