"""The states of a job's processes, read from the kernel."""

import contextlib
from pathlib import Path

from edge_worker.processes.table import find_tree, read_processes, supervisor_of
from edge_worker.task_host import job_files

STOPPED = {"T"}


def user_code_states(folder: Path) -> set[str]:
    """The states of all processes of a job but its supervisor."""
    taken = job_files.read_claim(folder)
    assert taken is not None
    table = read_processes()
    states = set()
    for process in find_tree(taken, table) - {supervisor_of(taken, table)}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.add(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0])
    return states
