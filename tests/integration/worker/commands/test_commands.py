"""Commands of producers, run by an agent without an Airflow runtime, in real processes."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from edge_schemas.life.model import JobRecord, JobState, Outcome, Verdict
from edge_schemas.wire.jobs import Job, JobKind, OnLost
from edge_schemas.wire.offline import OfflinePolicy
from edge_worker.agent.shutdown import ShutdownStage
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import FakeRelay
from support.relay.jobs import make_command
from support.worker.agent import eventually, make_identity, running_agent
from support.worker.agent_process import EDGE_WORKER, agent_environment, agent_process


@pytest.fixture
def willing(settings: Settings) -> Settings:
    """The settings of an owner who allows any command."""
    return settings.model_copy(update={"commands": ("*",)})


async def ended(relay: FakeRelay, job: Job) -> Outcome:
    await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    return outcome


async def run(relay: FakeRelay, settings: Settings, job: Job) -> Outcome:
    async with running_agent(relay, settings):
        await relay.publish(job)
        return await ended(relay, job)


def lines(relay: FakeRelay, job: Job) -> list[tuple[str, str]]:
    """What the command has printed: the stream's name and the text."""
    records = [json.loads(line) for line in bytes(relay.logs.get(job.id, b"")).splitlines()]
    return [(one["logger"].removeprefix("task."), one["event"]) for one in records]


def python(
    code: str,
    *,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    timeout_s: float | None = None,
    on_lost: OnLost = OnLost.FAIL,
) -> Job:
    return make_command(sys.executable, "-c", code, env=env, cwd=cwd, timeout_s=timeout_s, on_lost=on_lost)


async def test_a_command_runs_and_its_exit_code_output_and_result_arrive(relay: FakeRelay, willing: Settings) -> None:
    code = (
        "import os, sys\n"
        "print('out', os.environ['GREETING'], os.environ['EDGE_RELAY_QUEUE'], os.path.basename(os.getcwd()))\n"
        "print('err', file=sys.stderr)\n"
        "open(os.environ['EDGE_RELAY_RESULT'], 'w').write('42')\n"
        "sys.stdout.write('no newline')"
    )
    job = python(code, env={"GREETING": "hello"})
    outcome = await run(relay, willing, job)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.SUCCEEDED, 0)
    assert outcome.result is not None
    assert outcome.result.body == b"42"
    assert sorted(lines(relay, job)) == [
        ("stderr", "err"),
        ("stdout", "no newline"),
        ("stdout", "out hello default work"),
    ]


@pytest.mark.parametrize(
    ("job", "exit_code", "reason"),
    [
        (python("raise SystemExit(3)"), 3, "the process ended with status 3"),
        (make_command("no-such-program-here"), 127, "cannot be found: no-such-program-here"),
        (make_command("/etc/passwd"), 126, "/etc/passwd cannot be run: Permission denied"),
        (python("", cwd="/no/such/folder"), 127, "cannot be found: /no/such/folder"),
        (
            python("import time; print('begun', flush=True); time.sleep(60)", timeout_s=0.5),
            124,
            "the command ran longer than its time-out of 0.5 s",
        ),
        (
            python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
            -15,
            "the process was ended by SIGTERM",
        ),
    ],
    ids=["exit code", "no program", "not executable", "no folder", "time-out", "signal"],
)
async def test_a_command_that_fails_says_why(
    relay: FakeRelay, willing: Settings, job: Job, exit_code: int, reason: str
) -> None:
    outcome = await run(relay, willing, job)
    assert (outcome.verdict, outcome.exit_code, outcome.reason) == (Verdict.FAILED, exit_code, reason)


async def test_without_a_runtime_the_worker_accepts_commands_and_no_tasks(relay: FakeRelay, willing: Settings) -> None:
    async with running_agent(relay, willing) as agent:
        agent.runtime.is_ready = False
        await relay.until(lambda: bool(relay.polls) and relay.polls[-1].kinds == (JobKind.COMMAND,))
        assert relay.polls[-1].no_jobs_reason is None
        agent.runtime.is_ready = True
        await relay.until(lambda: relay.polls[-1].kinds == (JobKind.TASK, JobKind.COMMAND))


@pytest.mark.parametrize(
    ("commands", "job", "why"),
    [
        ((), make_command("true"), "has not allowed them"),
        (("false",), make_command("true"), "has not allowed it"),
        (("true",), make_command("true", env={"LD_PRELOAD": "/tmp/x.so"}), "LD_PRELOAD may not be set"),
        (("true",), make_command("true", cwd="/"), "none may choose its folder"),
    ],
    ids=["none", "another", "variable", "folder"],
)
async def test_only_what_the_owner_allows_is_run(
    relay: FakeRelay, settings: Settings, commands: tuple[str, ...], job: Job, why: str
) -> None:
    """The fake relay grants it, as one that was taken over would."""
    async with running_agent(relay, settings.model_copy(update={"commands": commands})):
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
    assert why in relay.released[0].reason
    assert relay.released[0].counted
    assert relay.requests[f"/v1/jobs/{job.id}/start"] == 0


async def test_an_allowed_program_is_found_by_the_owners_path(relay: FakeRelay, settings: Settings) -> None:
    allowed = settings.model_copy(update={"commands": ("true",), "command_env": ("LEVEL",)})
    outcome = await run(relay, allowed, make_command("true", env={"LEVEL": "1"}))
    assert outcome.verdict is Verdict.SUCCEEDED


async def test_a_cancelled_command_is_stopped_with_all_that_it_has_started(relay: FakeRelay, willing: Settings) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    job = python(code)
    async with running_agent(relay, willing) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"stdout")
        await relay.until(lambda: job.id in relay.logs and b"stdout" in relay.logs[job.id])
        child = int(lines(relay, job)[0][1])
        await relay.withdraw(job.id, "not needed")
        outcome = await ended(relay, job)
    assert (outcome.verdict, outcome.reason) == (Verdict.CANCELLED, "not needed")
    assert any("stops this command (not needed)" in text for _, text in lines(relay, job))
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_what_a_command_leaves_behind_ends_with_it(relay: FakeRelay, willing: Settings) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid)"
    job = python(code)
    outcome = await run(relay, willing, job)
    assert outcome.verdict is Verdict.SUCCEEDED
    with pytest.raises(ProcessLookupError):
        os.kill(int(next(text for stream, text in lines(relay, job) if stream == "stdout")), 0)


async def test_binary_and_endless_lines_are_kept_in_pieces(relay: FakeRelay, willing: Settings) -> None:
    job = python("import sys; sys.stdout.buffer.write(b'\\xff\\x00' + b'x' * 3_000_000)")
    assert (await run(relay, willing, job)).verdict is Verdict.SUCCEEDED
    texts = [text for _, text in lines(relay, job)]
    assert "".join(texts) == "\\xff\x00" + "x" * 3_000_000
    assert max(map(len, texts)) <= 1024 * 1024 + 3


@pytest.mark.parametrize("ends", ["after", "while"])
async def test_a_command_continues_when_its_agent_is_killed(
    relay: FakeRelay, willing: Settings, tmp_path: Path, ends: str
) -> None:
    """The next agent takes it up, whether it still runs then or has ended meanwhile; its result arrives."""
    state, go = StateDir(willing.state_dir), tmp_path / "go"
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    code = (
        f"import os, sys, time\nprint('up', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "open(os.environ['EDGE_RELAY_RESULT'], 'wb').write(b'\\xfe'); print('down'); sys.exit(4)"
    )
    job = python(code)
    environment = agent_environment(willing, EDGE_WORKER_COMMANDS="*")
    async with agent_process((*EDGE_WORKER, "run"), environment, tmp_path / "agent.log") as process:
        await relay.publish(job)
        log = state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    if ends == "while":
        go.touch()
        await eventually((state.job_dir(job.id).path / "result.json").exists)
    async with running_agent(relay, willing):
        await relay.until(lambda: relay.polls[-1].incarnation > relay.polls[0].incarnation)
        go.touch()
        outcome = await ended(relay, job)
    assert outcome.exit_code == 4
    assert outcome.result is not None
    assert outcome.result.body == b"\xfe"
    assert lines(relay, job) == [("stdout", "up"), ("stdout", "down")]


@pytest.mark.parametrize("on_lost", list(OnLost))
async def test_a_command_of_a_worker_that_shuts_down_has_the_fate_that_its_producer_chose(
    relay: FakeRelay, willing: Settings, on_lost: OnLost
) -> None:
    job = python("import time; print('up', flush=True); time.sleep(600)", on_lost=on_lost)
    async with running_agent(relay, willing) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        agent.shutdown.reach(ShutdownStage.STOP, "the test says so")
        await agent.until_ended()
    record: JobRecord = relay.records[job.id]
    if on_lost is OnLost.REQUEUE:
        assert (record.state, record.attempt, record.holder) == (JobState.WAITING, 1, None)
    else:
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.FAILED


async def test_without_an_agent_a_command_ends_before_it_may_start_elsewhere(
    relay: FakeRelay, willing: Settings, tmp_path: Path
) -> None:
    state = StateDir(willing.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    job = python("import time; print('up', flush=True); time.sleep(600)")
    job = job.model_copy(update={"offline": OfflinePolicy(tolerance_s=10)})
    environment = agent_environment(willing, EDGE_WORKER_COMMANDS="*")
    async with agent_process((*EDGE_WORKER, "run"), environment, tmp_path / "agent.log") as process:
        await relay.publish(job)
        log = state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        result = state.job_dir(job.id).path / "result.json"
        await eventually(result.exists)
    assert json.loads(result.read_bytes())["exit_code"] is None, "the job did not end by itself"
    assert b"the edge worker's agent does not answer" in log.read_bytes()
