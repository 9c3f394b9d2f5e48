"""Which processes belong to a job."""

import asyncio
import os
import sys

from edge_worker.processes.table import Process, find_tree, read_processes, supervisor_of
from edge_worker.task_host import job_files
from edge_worker.task_host.job_files import Claim

# Far above any pid of the machine, so that nobody's environment is looked at.
BASE = 2**40


def process(number: int, parent: int, session: int, start: int = 100) -> Process:
    return Process(BASE + number, BASE + parent, BASE + session, BASE + session, start)


def table(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in processes}


def taken(start: int = 100, boot: str | None = None) -> Claim:
    return Claim("job-1", BASE + 1, start, job_files.boot_id() if boot is None else boot)


SUPERVISOR = process(1, 0, 1)
USER = process(2, 1, 1)
LEFT_SESSION = process(3, 2, 3)
ITS_CHILD = process(4, 3, 3)
STRANGER = process(9, 0, 9)


def test_tree_follows_children_into_other_sessions() -> None:
    everyone = table(SUPERVISOR, USER, LEFT_SESSION, ITS_CHILD, STRANGER)
    assert find_tree(taken(), everyone) == {SUPERVISOR, USER, LEFT_SESSION, ITS_CHILD}


def test_tree_keeps_whom_it_knew_when_the_parents_are_gone() -> None:
    orphan = process(4, 0, 3)
    assert find_tree(taken(), table(orphan, STRANGER), known={ITS_CHILD}) == {orphan}


def test_session_is_found_after_its_supervisor() -> None:
    orphan = process(2, 0, 1)
    assert find_tree(taken(), table(orphan, STRANGER)) == {orphan}


def test_reused_pid_is_nobody_of_ours() -> None:
    reused = process(1, 0, 1, start=999)
    child = process(2, 1, 1, start=1000)
    assert supervisor_of(taken(), table(reused)) is None
    assert find_tree(taken(), table(reused, child), known={SUPERVISOR, USER}) == set()


def test_pids_of_an_earlier_boot_mean_nothing() -> None:
    earlier = taken(boot="an earlier boot")
    assert find_tree(earlier, table(SUPERVISOR, USER)) == set()


async def test_process_that_carries_the_jobs_mark_is_found_wherever_it_is() -> None:
    program = [sys.executable, "-c", "print(flush=True); input()"]
    marked = await asyncio.create_subprocess_exec(
        *program,
        env={**os.environ, job_files.JOB_MARK: "job-of-this-test"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert marked.stdout is not None
    await marked.stdout.readline()
    gone = Claim("job-of-this-test", BASE, 1, job_files.boot_id())
    try:
        assert {found.pid for found in find_tree(gone, read_processes())} == {marked.pid}
    finally:
        await marked.communicate(b"\n")
    assert find_tree(gone, read_processes()) == set()
