"""Which signed jobs have run here: a signature stays valid, so a relay could grant such a job a second time.

A job counts once its user code has begun, or its process if it is no task. Until then it may wait again and come back.
Ids are kept for as long as a job of that age is accepted. If there are too many, the oldest go, and with them the
permission to run jobs of their age.
"""

import os
import uuid
from heapq import heapify, heappop, heappush
from pathlib import Path

from edge_worker.files import write_atomically
from edge_worker.log import EventLog

FILE = "ran_jobs"
MAX_JOBS = 50_000
_SPARE_LINES = 5_000
"""The file is written anew when it has so many lines more than needed."""

log = EventLog("edge_worker.signing.ran_jobs")


class RanJobs:
    """The ids of the jobs, on disk and in memory, with the times at which they were published.

    Args:
        state_dir: Where they are kept.
        max_age_s: Older jobs are not accepted in any case.
        now: Unix time.
        max_jobs: How many are kept.
    """

    def __init__(self, state_dir: Path, *, max_age_s: float, now: float, max_jobs: int = MAX_JOBS) -> None:
        self._path = state_dir / FILE
        self._max_age_s = max_age_s
        self._max_jobs = max_jobs
        self._published: dict[int, int] = {}
        self._by_age: list[tuple[int, int]] = []
        self._lines = 0
        self.not_before = 0
        """Jobs that were published earlier may have run here: what is known of them was dropped."""
        self._read()
        self._drop(now)
        self._write()

    def __contains__(self, job: str) -> bool:
        return uuid.UUID(job).int in self._published

    def add(self, job: str, published_at: float, now: float) -> None:
        """Record that a job has run; on disk before anything follows from it.

        Raises:
            OSError: It is not on disk; it counts until the agent's next start.
        """
        number = uuid.UUID(job).int
        if number in self._published:
            return
        self._published[number] = int(published_at)
        heappush(self._by_age, (int(published_at), number))
        self._drop(now)
        if self._lines >= len(self._published) + _SPARE_LINES:
            self._write()
            return
        with self._path.open("a") as file:
            file.write(f"{job} {int(published_at)}\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines += 1

    def _drop(self, now: float) -> None:
        """Forget what is too old to be accepted, and if there is too much, the oldest of the rest."""
        while self._by_age and self._by_age[0][0] < now - self._max_age_s:
            del self._published[heappop(self._by_age)[1]]
        while len(self._by_age) > self._max_jobs:
            published, number = heappop(self._by_age)
            del self._published[number]
            self.not_before = max(self.not_before, published + 1)

    def _read(self) -> None:
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            word, _, number = line.partition(" ")
            try:
                published = int(number)
                if word == "not_before":
                    self.not_before = max(self.not_before, published)
                else:
                    self._published[uuid.UUID(word).int] = published
            except ValueError:
                # The last line, if the machine went down while it was written.
                log.warning("ran_jobs_damaged", path=str(self._path))
        self._by_age = [(published, number) for number, published in self._published.items()]
        heapify(self._by_age)

    def _write(self) -> None:
        lines = [f"not_before {self.not_before}"]
        lines += [f"{uuid.UUID(int=number)} {published}" for number, published in self._published.items()]
        write_atomically(self._path, ("\n".join(lines) + "\n").encode())
        self._lines = len(lines)
