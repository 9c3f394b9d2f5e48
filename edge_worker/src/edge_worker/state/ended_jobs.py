"""Limits the disk space of all ended jobs: the oldest are removed first, those with logs not yet uploaded last."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

from edge_worker.log import EventLog
from edge_worker.processes.tree import is_alive
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.log_file import drop, read_dropped

log = EventLog("edge_worker.state.ended_jobs")


@dataclass
class EndedJobs:
    """The folders of ended jobs. Not for the event loop: the methods read and remove files.

    Attributes:
        kept: Contains the folders of finished jobs whose logs need no further upload.
        current: Contains the folders of the other ended jobs, and of jobs that run.
        max_bytes: The most that ended jobs may take.
    """

    kept: Path
    current: Path
    max_bytes: int
    _sizes: dict[Path, int] = field(default_factory=dict, init=False)

    def trim(self) -> None:
        """Removes as many kept folders as needed; if that is not enough, drops logs that wait for their upload."""
        waiting = {path: size_on_disk(path) for path in _folders(self.current) if _has_ended(path)}
        kept = self._kept_sizes()
        excess = sum(waiting.values()) + sum(kept.values()) - self.max_bytes
        if excess > 0:
            excess -= self._remove(kept, excess)
        if excess > 0:
            _drop_logs(waiting, excess)

    def _kept_sizes(self) -> dict[Path, int]:
        """Sizes by age, the oldest first. A kept folder does not change, so it is measured once."""
        self._sizes = {path: self._sizes.get(path) or size_on_disk(path) for path in _folders(self.kept)}
        return self._sizes

    def _remove(self, kept: dict[Path, int], excess: int) -> int:
        removed, freed = 0, 0
        for path, size in kept.items():
            if freed >= excess:
                break
            try:
                rmtree(path)
            except OSError as error:
                log.warning("ended_job_not_removed", path=str(path), error=str(error))
                continue
            removed, freed = removed + 1, freed + size
        if removed:
            log.info("ended_jobs_removed", jobs=removed, freed_bytes=freed, spool_max_bytes=self.max_bytes)
        return freed


def _drop_logs(waiting: dict[Path, int], excess: int) -> None:
    """Drops logs. The upload counts the dropped bytes, and reports them in the stream, when it reaches them."""
    freed = 0
    for path in waiting:
        if freed >= excess:
            return
        job_dir = JobDir(path)
        try:
            size = job_dir.log.stat().st_size
            if read_dropped(path) < size:
                before = size_on_disk(path)
                drop(job_dir.log, size)
                freed += max(0, before - size_on_disk(path))
                log.warning("waiting_log_dropped", job=path.name, means="spool_max_bytes is reached without a link")
        except OSError as error:
            log.warning("waiting_log_not_dropped", job=path.name, error=str(error))


def _has_ended(path: Path) -> bool:
    try:
        return JobDir(path).was_launched and not is_alive(path)
    except OSError:
        # The folder cannot be read now: the job counts as not ended.
        return False


def _folders(parent: Path) -> Iterator[Path]:
    """The folders below `parent`, the oldest first."""
    try:
        ages = sorted((path.stat().st_mtime, path) for path in parent.iterdir() if path.is_dir())
    except OSError as error:
        # A folder may have been moved meanwhile; the next call tries again.
        log.warning("jobs_not_listed", path=str(parent), error=str(error))
        return iter(())
    return (path for _, path in ages)


def size_on_disk(folder: Path) -> int:
    """The disk space of a folder's files, without holes."""
    total = 0
    # `rglob` is not used, because it fails if a folder is removed meanwhile.
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * 512
    return total
