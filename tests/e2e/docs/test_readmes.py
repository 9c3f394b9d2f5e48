"""The commands of the README that do not need Docker, and the commands of the relay's README."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.system.paths import PROGRAMS
from support.pages.pages import ROOT
from support.pages.readme_pages import DEMO, DEMO_QUEUE, LOCAL, README, RELAY, STANDALONE, UP


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_make_demo(tmp_path: Path) -> None:
    """`tests/e2e/test_demo_dag.py` runs the same on the system that tests share."""
    demo = _make(DEMO, tmp_path)
    await demo.start()
    await demo.wait_for_success(380)
    assert README.run[DEMO].prints in demo.log.read_text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("commands", [60, pytest.param(200, marks=pytest.mark.soak)])
async def test_make_demo_queue(tmp_path: Path, commands: int) -> None:
    """The queue without Airflow as a whole: real processes behind a real proxy, and a worker that is killed."""
    demo = _make(DEMO_QUEUE, tmp_path, f"--commands={commands}")
    await demo.start()
    await demo.wait_for_success(280)
    printed = demo.log.read_text()
    assert f"all commands succeeded: {{'succeeded': {commands}}}" in printed
    assert LOCAL.run[DEMO_QUEUE].prints in printed


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_make_up_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    """It runs until Ctrl-C, which a terminal sends to make and its children."""
    up = _make(UP, tmp_path)

    async def is_up() -> bool:
        return README.run[UP].prints in up.log.read_text()

    await up.start()
    try:
        await up.wait_until(is_up, timeout_s=300)
        os.killpg(up.pid, signal.SIGINT)
        async with asyncio.timeout(60):
            await up.wait()
    finally:
        await up.stop()
    assert "all parts have stopped" in up.log.read_text()


async def test_the_commands_of_the_relay_s_readme(tmp_path: Path) -> None:
    env = _environment({})
    [relay_command, *others] = [command for command in RELAY.commands if command not in RELAY.not_run]
    assert relay_command == STANDALONE
    relay = Child("relay", ["/bin/sh", "-c", f"exec {STANDALONE}"], log=tmp_path / "relay.log", cwd=tmp_path, env=env)

    async def is_up() -> bool:
        return RELAY.run[STANDALONE].prints in relay.log.read_text()

    await relay.start()
    try:
        await relay.wait_until(is_up, timeout_s=60)
        for command in others:
            status, output = await _run(command, tmp_path, env)
            assert status == 0 or RELAY.run[command].may_fail, output
            assert RELAY.run[command].prints in output
    finally:
        await relay.stop()


def _make(command: str, folder: Path, *options: str) -> Child:
    """A target of the Makefile in a separate folder, because another run may use its default folder."""
    # In MAKEFLAGS, a space within a variable has a backslash.
    arguments = "\\ ".join([f"--dir={folder / 'run'}", *options])
    env = _environment({"MAKEFLAGS": f" -- ARGS={arguments}"})
    return Child(command, ["/bin/sh", "-c", f"exec {command}"], log=folder / "output.log", cwd=ROOT, env=env)


async def _run(command: str, folder: Path, env: Mapping[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", command),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return clean_environment({**extra, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"})
