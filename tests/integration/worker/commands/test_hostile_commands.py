"""Commands that try to outlive their job, to stop the agent, or to fill its machine."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState, Outcome, Verdict
from edge_schemas.wire.jobs import Job
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay
from support.relay.jobs import make_command
from support.worker.agent import eventually, running_agent


@pytest.fixture
def willing(settings: Settings) -> Settings:
    """The settings of an owner who allows any command."""
    return settings.model_copy(update={"commands": ("*",)})


def python(code: str, timeout_s: float | None = None) -> Job:
    return make_command(sys.executable, "-c", code, timeout_s=timeout_s)


async def ended(relay: FakeRelay, job: Job) -> Outcome:
    await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    return outcome


def runs(pid: int) -> bool:
    """Whether this process runs; one whose end nothing has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


@pytest.mark.parametrize(
    "then",
    ["time.sleep(600)", "os.execve('/bin/sleep', ['sleep', '600'], {})"],
    ids=["as it is", "without its environment"],
)
async def test_a_command_that_kills_its_supervisor_ends(
    relay: FakeRelay, willing: Settings, tmp_path: Path, then: str
) -> None:
    """As one does whose supervisor runs out of memory: nothing else would end it, and another copy may be started."""
    file = tmp_path / "pid"
    code = (
        f"import os, signal, time\nopen({str(file)!r}, 'w').write(str(os.getpid()))\n"
        f"os.kill(os.getppid(), signal.SIGKILL)\n{then}"
    )
    job = python(code)
    async with running_agent(relay, willing):
        await relay.publish(job)
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAILED, None)
    assert "the supervisor was killed" in str(outcome.reason)
    assert not runs(int(file.read_text()))


WALKER = """import os
os.closerange(1, 3)
os.setsid()
while True:
    if os.fork(): os._exit(0)
    open({file!r}, 'a').write('.')
"""


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_process_that_forks_and_exits_all_the_time_ends_with_its_job(
    relay: FakeRelay, willing: Settings, tmp_path: Path, *, cancelled: bool
) -> None:
    """Each of its processes is gone before it could be killed by its number."""
    file = tmp_path / "steps"
    file.touch()
    walker = WALKER.format(file=str(file))
    stays = "time.sleep(600)" if cancelled else f"\nwhile not os.path.getsize({str(file)!r}): time.sleep(0.01)"
    job = python(f"import os, time\nif os.fork() == 0: exec({walker!r})\n{stays}")
    async with running_agent(relay, willing):
        await relay.publish(job)
        if cancelled:
            await eventually(lambda: file.stat().st_size > 0)
            await relay.withdraw(job.id, "not needed")
        outcome = await ended(relay, job)
    assert outcome.verdict is (Verdict.CANCELLED if cancelled else Verdict.SUCCEEDED)
    walked = file.stat().st_size
    pause = await asyncio.create_subprocess_exec("sleep", "0.3")
    await pause.wait()
    assert file.stat().st_size == walked


@pytest.mark.parametrize(
    ("make", "result"),
    [
        ("os.mkfifo(path)", None),
        ("os.mkdir(path)", None),
        ("os.symlink('/etc/hostname', path)", None),
        ("os.symlink('/dev/zero', path)", None),
        ("open(path, 'wb').truncate(1 << 40)", None),
        ("open(path, 'w').write('x' * 262_145)", None),
        ("open(path, 'w').write('x'); os.chmod(path, 0o200)", None),
        ("open(path, 'w').write('x' * 262_144)", b"x" * 262_144),
        ("os.link(os.environ['BESIDE'], path)", b"beside"),
    ],
    ids=["pipe", "folder", "link", "endless", "huge", "too large", "unreadable", "largest", "hard link"],
)
async def test_a_result_is_a_file_of_its_own_or_none(
    relay: FakeRelay, willing: Settings, tmp_path: Path, make: str, result: bytes | None
) -> None:
    """The agent neither waits for a pipe nor follows a link, and the next job runs."""
    beside = tmp_path / "beside"
    beside.write_bytes(b"beside")
    job = python(f"import os\nos.environ['BESIDE'] = {str(beside)!r}\npath = os.environ['EDGE_RELAY_RESULT']\n{make}")
    async with running_agent(relay, willing):
        await relay.publish(job)
        outcome = await ended(relay, job)
        following = make_command("true")
        await relay.publish(following)
        assert (await ended(relay, following)).verdict is Verdict.SUCCEEDED
    assert outcome.verdict is Verdict.SUCCEEDED
    if os.geteuid() == 0 and "chmod" in make:
        result = b"x"  # root may read it
    assert (None if outcome.result is None else outcome.result.body) == result


async def test_a_foreign_process_that_prints_into_the_output_does_not_keep_a_job_alive(
    relay: FakeRelay, willing: Settings, tmp_path: Path
) -> None:
    """A command of the same user can open the pipes of another one."""
    pid, is_open = tmp_path / "pid", tmp_path / "open"
    victim = python(
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        f"while not os.path.exists({str(is_open)!r}): time.sleep(0.02)"
    )
    async with running_agent(relay, willing):
        await relay.publish(victim)
        await eventually(lambda: pid.exists() and bool(pid.read_text()))
        writer = python(
            f"pipe = open('/proc/{pid.read_text()}/fd/1', 'wb', buffering=0)\nopen({str(is_open)!r}, 'w').close()\n"
            "import signal; signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
            "while True: pipe.write(b'\\n' * 65536)"
        )
        await relay.publish(writer)
        assert (await ended(relay, victim)).verdict is Verdict.SUCCEEDED
        assert (await ended(relay, writer)).verdict is Verdict.FAILED, "its pipe is closed"


async def test_a_command_without_outputs_that_ignores_sigterm_ends_at_its_time_out(
    relay: FakeRelay, willing: Settings
) -> None:
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.closerange(0, 100)\ntime.sleep(600)"
    )
    job = python(code, timeout_s=1)
    async with running_agent(relay, willing):
        await relay.publish(job)
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAILED, 124)


@pytest.mark.parametrize("data", ["b'x' * 65536", "b'\\xff' * 65536", "b'\\n' * 65536"], ids=["x", "binary", "lines"])
async def test_a_flood_of_output_takes_its_room_on_the_disk_only(
    relay: FakeRelay, willing: Settings, tmp_path: Path, data: str
) -> None:
    """The agent serves another job meanwhile, and the flood ends at its time-out."""
    small = willing.model_copy(update={"log_max_bytes": 4 << 20})
    most = 0
    job = python(f"import os\nwhile True: os.write(1, {data})", timeout_s=3)
    async with running_agent(relay, small):
        await relay.publish(job)
        [log] = await logs_of(small, job)
        beside = make_command("true")
        await relay.publish(beside)
        assert (await ended(relay, beside)).verdict is Verdict.SUCCEEDED
        while relay.state(job.id) is not JobState.ENDED and log.exists():
            most = max(most, log.stat().st_blocks * 512)
            await asyncio.sleep(0.05)
        outcome = await ended(relay, job)
    assert outcome.exit_code == 124
    assert 0 < most <= 3 * (4 << 20)


async def logs_of(settings: Settings, job: Job) -> list[Path]:
    """The log of a job that runs."""
    found: list[Path] = []

    def is_there() -> bool:
        found[:] = settings.state_dir.glob(f"jobs/{job.id}/task.log")
        return bool(found)

    await eventually(is_there)
    return found


async def test_ended_orphans_do_not_fill_the_process_table(relay: FakeRelay, willing: Settings, tmp_path: Path) -> None:
    """A command that runs for days may leave thousands of them to its supervisor."""
    file, go = tmp_path / "supervisor", tmp_path / "go"
    code = (
        "import os, time\n"
        "for number in range(50):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(0.1)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        f"open({str(file)!r}, 'w').write(str(os.getppid()))\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    )
    job = python(code)
    async with running_agent(relay, willing):
        await relay.publish(job)
        await eventually(lambda: file.exists() and bool(file.read_text()))
        children = Path(f"/proc/{file.read_text()}/task/{file.read_text()}/children")
        await eventually(lambda: len(children.read_text().split()) == 1)
        go.touch()
        assert (await ended(relay, job)).verdict is Verdict.SUCCEEDED
