"""`edge-worker enroll` as a user types it."""

import asyncio
import stat
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from edge_relay.standalone import tls
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.wire.workers import hash_secret
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay
from support.worker.agent_process import agent_environment


@dataclass
class Result:
    """Of a command."""

    code: int
    output: str
    errors: str


async def _enroll(settings: Settings, *arguments: str, token: str = "", stdin: str = "") -> Result:
    more = {"EDGE_WORKER_ENROLL_TOKEN": token} if token else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_worker", "enroll", *arguments,
        env=agent_environment(settings, **more),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(40):
        output, errors = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Result(process.returncode, output.decode(), errors.decode())


async def test_it_says_who_the_worker_is_and_what_comes_next(relay: FakeRelay, settings: Settings) -> None:
    result = await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    assert result.code == 0
    assert "Enrolled as worker-1 at site plant." in result.output
    assert "Queues: default" in result.output
    assert f"edge-worker run --state-dir {settings.state_dir}" in result.output
    identity = StateDir(settings.state_dir).identity()
    assert identity is not None
    assert relay.workers == {hash_secret(identity.secret): "worker-1"}
    assert identity.secret not in result.output + result.errors


async def test_the_next_command_names_the_ca_that_it_needs(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    """Only the relay's address is remembered."""
    ca_file = tls.ensure(tmp_path / "tls", ["relay.example.com"], now=datetime.now(UTC)).ca_cert
    result = await _enroll(settings, "--relay", relay.url, "--ca-file", str(ca_file), token=ENROLL_TOKEN)
    assert result.code == 0
    assert f"edge-worker run --state-dir {settings.state_dir} --ca-file {ca_file}" in result.output


async def test_the_secret_is_for_its_owner_only(relay: FakeRelay, settings: Settings) -> None:
    await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.state_dir.iterdir()}
    assert modes["worker.json"] == 0o600
    assert stat.S_IMODE(settings.state_dir.stat().st_mode) == 0o700


async def test_the_token_comes_from_a_file_or_from_standard_input(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(ENROLL_TOKEN + "\n")
    assert (await _enroll(settings, "--relay", relay.url, "--token-file", str(file))).code == 0
    again = await _enroll(settings, "--renew", "--token-file", "-", stdin=ENROLL_TOKEN + "\n")
    assert again.code == 0
    assert len(relay.workers) == 2


async def test_a_lost_answer_makes_no_second_worker(relay: FakeRelay, settings: Settings) -> None:
    relay.lose_answer["enroll"] = 2
    result = await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    assert result.code == 0
    assert relay.requests["/v1/enroll"] == 3
    assert list(relay.workers.values()) == ["worker-1"]


async def test_a_try_that_was_given_up_is_taken_up_by_the_next(relay: FakeRelay, settings: Settings) -> None:
    relay.lose_answer["enroll"] = 5
    assert (await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)).code == 5
    assert (await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)).code == 0
    assert list(relay.workers.values()) == ["worker-1"]


async def test_a_refused_token_is_said_and_changes_nothing(relay: FakeRelay, settings: Settings) -> None:
    result = await _enroll(settings, "--relay", relay.url, token="ere_wrong")
    assert result.code == 4
    assert "unknown, expired or used up" in result.errors
    assert "ere_wrong" not in result.output + result.errors
    assert StateDir(settings.state_dir).identity() is None


async def test_an_enrolled_machine_stays_who_it_is(relay: FakeRelay, settings: Settings) -> None:
    await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    result = await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    assert result.code == 2
    assert "already enrolled as worker-1" in result.errors
    assert len(relay.workers) == 1


async def test_plain_http_to_another_machine_is_refused(settings: Settings) -> None:
    result = await _enroll(settings, "--relay", "http://relay.example.com", token=ENROLL_TOKEN)
    assert result.code == 2
    assert "https" in result.errors


async def test_it_tells_its_runtime_and_is_warned_of_one_that_is_too_new(relay: FakeRelay, settings: Settings) -> None:
    """Not refused: only an enrolled worker can ask for another runtime."""
    relay.centre = CentreFacts(airflow_version="3.1.0", python_version="3.12.1")
    result = await _enroll(settings, "--relay", relay.url, token=ENROLL_TOKEN)
    assert result.code == 0
    assert relay.enrolled_airflow == version("apache-airflow-core")
    assert "newer than the centre's 3.1.0" in result.output + result.errors
    assert "edge-worker runtime install" in result.output + result.errors


async def test_it_says_that_a_runtime_is_missing(relay: FakeRelay, settings: Settings) -> None:
    arguments = ("--relay", relay.url, "--runtime-python", "/usr/bin/env")
    result = await _enroll(settings, *arguments, token=ENROLL_TOKEN)
    assert (result.code, relay.enrolled_airflow) == (0, None)
    assert f"edge-worker runtime install --state-dir {settings.state_dir}" in result.output
