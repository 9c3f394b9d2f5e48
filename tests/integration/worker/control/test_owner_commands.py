"""What the machine's owner sees and decides: real agents, real commands, the fake relay."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire.workers import Availability
from edge_worker.cli import main
from edge_worker.control.client import ask
from edge_worker.control.protocol import MAX_REQUEST_BYTES, POINTER, ControlRequest
from edge_worker.control.task_logs import readable
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import FakeRelay
from support.worker.agent import NAME, eventually, make_identity
from support.worker.agent_process import EDGE_WORKER, WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job

WAITS = "print('up', flush=True)\nwhile not os.path.exists({go!r}): time.sleep(0.02)\nprint('down')\nsucceed()"
NOBODY = 65534


@dataclass
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@dataclass
class Machine:
    """A machine with an enrolled worker."""

    relay: FakeRelay
    settings: Settings
    state: StateDir
    log: Path

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A running agent, once its first poll is parked."""
        before = len(self.relay.polls)
        async with agent_process(WITH_FAKE_RUNTIME, agent_environment(self.settings), self.log) as process:
            await self.relay.until(lambda: len(self.relay.polls) > before and self.relay.holds_a_poll)
            yield process

    async def run(self, *words: str) -> Said:
        """A command, with nothing but the state folder; in this process, which has loaded what it needs."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = await asyncio.to_thread(main, [*words, "--state-dir", str(self.state.path)])
        return Said(status, out.getvalue(), err.getvalue())

    async def run_apart(self, *words: str) -> Said:
        """A command in a process of its own."""
        process = await self.start(*words)
        out, err = await process.communicate()
        return Said(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """A command that goes on."""
        return await asyncio.create_subprocess_exec(
            *EDGE_WORKER,
            *words,
            "--state-dir",
            str(self.state.path),
            env={"PATH": os.environ["PATH"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def status(self) -> Any:
        """`edge-worker status --json`."""
        return json.loads((await self.run("status", "--json")).out)

    @property
    def socket(self) -> Path:
        """The control socket of the agent."""
        return Path((self.state.path / POINTER).read_text())


@pytest.fixture
def machine(relay: FakeRelay, settings: Settings, tmp_path: Path) -> Machine:
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    return Machine(relay, settings, state, tmp_path / "agent.log")


async def test_the_status_of_a_working_agent(machine: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = script_job(WAITS.format(go=str(go)))
    async with machine.agent() as process:
        await machine.relay.publish(job)
        log = machine.state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        found = await machine.status()
        assert found["running"] is True
        assert (found["worker"], found["pid"], found["link"], found["free"]) == (NAME, process.pid, "up", 1)
        assert (found["wanted"], found["own_pause"], found["stage"]) == (Availability.ACTIVE, None, "run")
        [shown] = found["jobs"]
        assert (shown["job"], shown["phase"], shown["log"]) == (job.id, "running", str(log))
        assert shown["since"] is not None
        said = await machine.run_apart("status")
        assert said.status == 0
        for fact in (f"{NAME} at site s", machine.relay.url, "up for", "yes, 1 of 2 slots are free", job.id, str(log)):
            assert fact in said.out, said.out
        assert machine.state.identity().secret not in said.out  # type: ignore[union-attr]  # it is enrolled
        go.touch()


async def test_a_lost_link_is_shown(machine: Machine) -> None:
    async with machine.agent():
        await machine.relay.stop()
        await eventually(lambda: "relay_unreachable" in machine.log.read_text())
        assert (await machine.status())["link"] == "lost"
        assert "lost for" in (await machine.run("status")).out


async def test_a_pause_is_reported_and_survives_a_restart(machine: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running, waiting = script_job(WAITS.format(go=str(go))), script_job("succeed()")
    async with machine.agent() as process:
        await machine.relay.publish(running)
        await eventually(machine.state.job_dir(running.id).log.exists)
        said = await machine.run("pause", "--reason", "new press until 6 pm")
        assert said.status == 0, said.err
        assert "1 job goes on" in said.out
        await machine.relay.until(lambda: machine.relay.polls[-1].free == 0)
        told = "paused on the machine: new press until 6 pm"
        assert machine.relay.polls[-1].no_jobs_reason == told
        assert not machine.relay.polls[-1].draining
        await machine.relay.publish(waiting)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with machine.agent():
        assert machine.relay.polls[-1].no_jobs_reason == told
        found = await machine.status()
        assert found["refusal"] == told
        assert found["own_pause"]["reason"] == "new press until 6 pm"
        go.touch()
        await eventually(lambda: bool(machine.relay.finishes.get(running.id)))
        assert machine.relay.state(waiting.id) is JobState.WAITING
        assert "takes jobs" in (await machine.run("resume")).out
        await eventually(lambda: bool(machine.relay.finishes.get(waiting.id)))
    assert not (machine.state.path / "owner.json").exists()


async def test_pause_and_resume_without_an_agent(machine: Machine) -> None:
    said = await machine.run("status")
    assert said.status == 1
    for fact in ("none runs", NAME, machine.relay.url, "none is unfinished"):
        assert fact in said.out, said.out
    assert (await machine.run("pause", "--reason", "moving house")).status == 0
    found = await machine.status()
    assert found["running"] is False
    assert found["own_pause"]["reason"] == "moving house"
    async with machine.agent():
        assert machine.relay.polls[-1].no_jobs_reason == "paused on the machine: moving house"
    assert "No agent runs" in (await machine.run("resume")).out
    async with machine.agent():
        await machine.relay.until(lambda: machine.relay.polls[-1].free == 2)


async def test_a_damaged_file_keeps_the_worker_paused_until_resume(machine: Machine) -> None:
    (machine.state.path / "owner.json").write_text('{"reason": ')
    async with machine.agent():
        assert "'edge-worker resume'" in (machine.relay.polls[-1].no_jobs_reason or "")
        assert (await machine.run("resume")).status == 0
        await machine.relay.until(lambda: machine.relay.polls[-1].free == 2)


async def test_a_drain_waits_for_jobs_and_tells_so(machine: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = script_job(WAITS.format(go=str(go)))
    async with machine.agent() as process:
        await machine.relay.publish(job)
        await eventually(machine.state.job_dir(job.id).log.exists)
        drain = await machine.start("drain")
        assert drain.stdout is not None
        assert b"takes no new jobs" in await drain.stdout.readline()
        assert b"1 job goes on" in await drain.stdout.readline()
        await machine.relay.until(lambda: machine.relay.polls[-1].draining)
        assert (await machine.status())["stage"] == "drain"
        go.touch()
        out, _ = await drain.communicate()
        assert drain.returncode == 0
        assert b"The agent has ended." in out
        assert await process.wait() == 0
    assert machine.relay.finishes[job.id][0].exit_code == 0


async def test_a_stop_ends_the_jobs(machine: Machine) -> None:
    job = script_job("print('up', flush=True); time.sleep(60)")
    async with machine.agent() as process:
        await machine.relay.publish(job)
        log = machine.state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        assert (await machine.run("stop", "--no-wait")).status == 0
        assert await process.wait() == 0
    assert machine.relay.finishes[job.id][0].release
    assert (await machine.run("drain")).status == 1, "no agent runs any more"


async def test_logs_are_listed_printed_and_followed(machine: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = script_job(WAITS.format(go=str(go)))
    assert "There is no log" in (await machine.run("logs")).out
    async with machine.agent():
        await machine.relay.publish(job)
        log = machine.state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        listed = (await machine.run("logs")).out
        assert job.id in listed
        assert "not finished" in listed
        assert (await machine.run("logs", job.id[:8])).out == "up\n"
        follow = await machine.start("logs", job.id, "--follow")
        assert follow.stdout is not None
        assert await follow.stdout.readline() == b"up\n"
        go.touch()
        assert await follow.stdout.readline() == b"down\n"
        assert await follow.wait() == 0, "it ends with the job"
        await eventually(lambda: not machine.state.job_dir(job.id).path.exists())
    assert (await machine.run("logs", job.id)).out == "up\ndown\n", "kept after the end"
    [found] = json.loads((await machine.run("logs", "--json")).out)["items"]
    assert (found["job"], found["finished"]) == (job.id, True)
    said = await machine.run("logs", "unknown")
    assert (said.status, "'edge-worker logs' lists" in said.err) == (1, True)


def test_control_characters_of_a_task_do_not_reach_the_terminal() -> None:
    line = json.dumps({"timestamp": "T", "level": "info", "event": "\x1b[2Jgone", "logger": "task", "n": 3}).encode()
    assert readable(line) == "T info ?[2Jgone logger=task n=3"
    assert readable(b"plain \x1b[31m\xff") == "plain ?[31m\ufffd"
    assert readable(b"[1]") == "[1]"


GARBAGE = [
    b"",
    b"\n",
    b"\x00\xff\xfe" * 100 + b"\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"x" * (MAX_REQUEST_BYTES * 20),
    b'{"do": "format"}\n',
    b'{"do": "pause", "reason": "' + b"r" * 1000 + b'"}\n',
    b'{"do": "status", "more": 1}\n',
    b"[" * 3000 + b"\n",
]


async def test_garbage_on_the_socket_changes_nothing(machine: Machine) -> None:
    async with machine.agent() as process:
        for garbage in GARBAGE:
            reader, writer = await asyncio.open_unix_connection(str(machine.socket))
            with contextlib.suppress(ConnectionError):
                writer.write(garbage)
                await writer.drain()
                writer.write_eof()
                assert b"no request" in await reader.read(), garbage
            writer.close()
            found = await asyncio.to_thread(ask, machine.state.path, ControlRequest(do="status"))
            assert (found.own_pause, found.stage) == (None, "run"), garbage
        assert process.returncode is None
    assert "control_fault" not in machine.log.read_text()


async def test_clients_that_say_nothing_push_nobody_out_for_long(machine: Machine) -> None:
    """Their connections are closed after some seconds; until then a few of them are enough to keep others out."""
    async with machine.agent():
        silent = [await asyncio.open_unix_connection(str(machine.socket)) for _ in range(30)]
        async with asyncio.timeout(20):
            for reader, _ in silent:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
        assert (await machine.status())["running"] is True
        for _, writer in silent:
            writer.close()


async def test_only_the_owner_may_open_the_socket(machine: Machine) -> None:
    async with machine.agent():
        assert machine.socket.stat().st_mode & 0o777 == 0o600
        assert machine.socket.parent.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused(machine: Machine) -> None:
    """By the folder's mode; and by who connects, should the modes be changed by mistake."""
    async with machine.agent():
        assert await asyncio.to_thread(_as_nobody, machine.socket) == "PermissionError"
        for path in machine.socket.parents:
            path.chmod(path.stat().st_mode | 0o055 if path != Path("/") else path.stat().st_mode)
        machine.socket.chmod(0o666)
        assert "only the user of the agent and root" in await asyncio.to_thread(_as_nobody, machine.socket)
        assert (await machine.status())["own_pause"] is None
    assert '"uid": 65534' in machine.log.read_text()


def _as_nobody(path: Path) -> str:
    """What the user `nobody` is answered to a pause, in a process of its own."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(ControlRequest(do="pause").model_dump_json().encode() + b"\n")
                os.write(sender, connection.recv(4096))
        except OSError as error:
            os.write(sender, type(error).__name__.encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
async def test_root_writes_as_the_user_of_the_agent(machine: Machine) -> None:
    """What root writes for an agent that does not run, the agent can read; and a link leads root nowhere."""
    with tempfile.TemporaryDirectory(prefix="ew-") as folder:
        path, victim = Path(folder) / "state", Path(folder) / "victim"
        victim.write_text("kept")
        path.mkdir(mode=0o700)
        for owned in (Path(folder), path):
            os.chown(owned, NOBODY, NOBODY)
        there = Machine(machine.relay, machine.settings, StateDir(path), machine.log)
        said = await there.run_apart("pause", "--reason", "x")
        assert said.status == 0, said.err
        assert {one.stat().st_uid for one in path.iterdir()} == {NOBODY}
        assert json.loads((path / "owner.json").read_text())["by"] == "root"
        (path / "owner.json.new").symlink_to(victim)
        assert (await there.run_apart("pause", "--reason", "y")).status == 1
        assert victim.read_text() == "kept"
