"""Since when a job may not run any more."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_worker.task_host import job_files, lease
from edge_worker.task_host.protocol import Offline
from edge_worker.task_host.supervision import fence
from edge_worker.task_host.supervision.fence import Right, SupervisorFence

OFFLINE: Offline = {"tolerance_s": 60.0, "fence_after_s": 30.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time since boot, to be changed."""
    now = [1000.0]
    monkeypatch.setattr(lease, "now", lambda: now[0])
    return now


def _write(path: Path, sent_at: Any, boot: str | None = None) -> None:
    path.write_text(json.dumps({"boot": job_files.boot_id() if boot is None else boot, "sent_at": sent_at}))


def _ignore(_: str) -> None:
    """What is said is of no interest."""


def _rights(found: SupervisorFence, clock: list[float], at: tuple[float, ...]) -> list[Right]:
    rights = []
    for instant in at:
        clock[0] = instant
        rights.append(found.right())
    return rights


def test_right_ends_in_two_steps_after_the_last_contact(tmp_path: Path, clock: list[float]) -> None:
    _write(tmp_path / "lease", 990.0)
    found = SupervisorFence(tmp_path / "lease", OFFLINE, _ignore)
    assert _rights(found, clock, (1019.9, 1020, 1048.9, 1049)) == [Right.RUN, Right.STOP, Right.STOP, Right.NONE]


def test_contact_gives_the_right_back(tmp_path: Path, clock: list[float]) -> None:
    _write(tmp_path / "lease", 990.0)
    found = SupervisorFence(tmp_path / "lease", OFFLINE, _ignore)
    assert _rights(found, clock, (1049,)) == [Right.NONE]
    _write(tmp_path / "lease", 1048.0)
    assert _rights(found, clock, (1049, 1077, 1078)) == [Right.RUN, Right.RUN, Right.STOP]


@pytest.mark.parametrize("content", [None, "an earlier boot", "{", '{"boot": "x"}', "[]"])
def test_without_a_lease_of_this_boot_the_start_counts(tmp_path: Path, clock: list[float], content: str | None) -> None:
    path = tmp_path / "lease"
    if content == "an earlier boot":
        _write(path, 999999.0, boot=content)
    elif content is not None:
        path.write_text(content)
    found = SupervisorFence(path, OFFLINE, _ignore)
    assert _rights(found, clock, (1029, 1030)) == [Right.RUN, Right.STOP]


def test_job_that_continues_regardless_has_no_fence(tmp_path: Path, clock: list[float]) -> None:
    found = SupervisorFence(tmp_path / "lease", {**OFFLINE, "fence_after_s": None}, _ignore)
    assert _rights(found, clock, (10.0**9,)) == [Right.RUN]
    assert found.seconds_left() is None


def test_reason_is_said_once(tmp_path: Path, clock: list[float]) -> None:
    said: list[str] = []
    found = SupervisorFence(tmp_path / "lease", OFFLINE, said.append)
    clock[0] += 31
    found.end_job("This task is stopped")
    found.end_job("All processes of this task are killed")
    (text,) = said
    assert text == f"This task is stopped: {found.end_reason}"
    assert "no contact with the centre for 31 s; after 60 s" in text


def test_nobody_answers_where_nobody_listens(tmp_path: Path) -> None:
    assert not fence.agent_answers(str(tmp_path / "gw.sock"))


TREE = """
import os, signal, subprocess, sys, time
from edge_worker.task_host.supervision.fence import is_frozen
def until(wanted):
    deadline = time.monotonic() + 10
    while is_frozen() is not wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_frozen()
said = [is_frozen()]
child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
grandchild = int(child.stdout.readline())
said.append(is_frozen())
os.kill(child.pid, signal.SIGSTOP)
os.waitpid(child.pid, os.WUNTRACED)
said.append(is_frozen())
os.kill(grandchild, signal.SIGSTOP)
said.append(until(True))
os.kill(grandchild, signal.SIGCONT)
said.append(until(False))
for pid in (grandchild, child.pid):
    os.kill(pid, signal.SIGKILL)
print(said)
"""


def test_what_an_agent_left_standing_still_is_left_alone() -> None:
    """All of it must stand still; a supervisor without user code has nothing to leave alone."""
    ran = subprocess.run([sys.executable, "-c", TREE], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "[False, False, False, True, False]"
