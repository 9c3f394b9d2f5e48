"""Child processes are started, waited for, and ended with all processes that they started."""

import os
import sys
from pathlib import Path

import pytest

from local.processes.child import Child, ChildFailed, clean_environment
from local.processes.process_table import process_family, still_running
from support.nats.server import eventually

# Ignores SIGTERM, starts a grandchild in its own session, and then creates a file.
STUBBORN = """
import pathlib, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path("ready").touch()
time.sleep(600)
"""


def child(folder: Path, code: str, **environment: str) -> Child:
    argv = [sys.executable, "-c", code]
    return Child("test", argv, log=folder / "log", cwd=folder, env=clean_environment(environment))


async def test_a_child_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = child(tmp_path, STUBBORN)
    await stubborn.start()
    await eventually((tmp_path / "ready").exists)
    started = process_family(stubborn.pid)
    assert len(started) == 2
    await stubborn.stop(grace_s=0.1)
    assert still_running(started) == []
    assert not stubborn.running


async def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Here the parent is a separate process, which starts a `Child` and is then killed."""
    parent = child(
        tmp_path,
        f"""
import asyncio, pathlib, sys
from local.processes.child import Child
async def main():
    here = pathlib.Path({str(tmp_path)!r})
    sleeper = Child("sleeper", ["/bin/sleep", "600"], log=here / "sleeper.log", cwd=here, env={{}})
    await sleeper.start()
    (here / "pid.new").write_text(str(sleeper.pid))
    (here / "pid.new").rename(here / "pid")
    await asyncio.sleep(600)
asyncio.run(main())
""",
        PYTHONPATH=str(Path(__file__).parents[3] / "compose"),
    )
    if sys.platform != "linux":
        pytest.skip("only Linux sends a child a signal when its parent ends")
    await parent.start()
    await eventually((tmp_path / "pid").exists)
    sleeper = process_family(int((tmp_path / "pid").read_text()))
    assert len(sleeper) == 1
    await parent.kill()
    await eventually(lambda: not still_running(sleeper), what="the child of a killed parent ends")


async def test_a_child_that_ends_too_early_is_named_with_its_log(tmp_path: Path) -> None:
    failing = child(tmp_path, "import sys; sys.exit('no luck')")
    await failing.start()

    async def never() -> bool:
        return False

    with pytest.raises(ChildFailed, match=r"test ended with status 1 before it was ready; see .*log"):
        await failing.wait_until(never, timeout_s=30)
    assert (tmp_path / "log").read_text() == "no luck\n"


async def test_standard_input_is_passed_on(tmp_path: Path) -> None:
    reader = child(tmp_path, "import sys; sys.exit(len(sys.stdin.read()))")
    await reader.start(stdin=b"12345")
    assert await reader.wait() == 5


def test_the_environment_has_no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "AIRFLOW__CORE__EXECUTOR", "EDGE_WORKER_SLOTS", "HTTPS_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = clean_environment({"MINE": "2"})
    assert environment["LANG"] == "C.UTF-8"
    assert environment["MINE"] == "2"
    assert environment["PATH"] == os.environ["PATH"]
    assert not {
        "PYTHONDONTWRITEBYTECODE",
        "AIRFLOW__CORE__EXECUTOR",
        "EDGE_WORKER_SLOTS",
        "HTTPS_PROXY",
        "no_proxy",
    } & set(environment)
