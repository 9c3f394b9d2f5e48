"""The folder of one job. Its content decides how the job continues after the agent, or the machine, has gone down.

    job.json        the job as it was granted
    receipt         of the grant; to start the job with
    environment     the name of the virtual environment that the job's code needs, from before its launch on
    started         the relay has confirmed the start: this worker is the holder
    frozen          the job's processes were, or are about to be, stopped; removed once they run again
    log_offset      up to where the relay has the log
    log_gaps.json   where the relay's copy of the log differs from the file; see `spool`
    final_state     the state that Airflow accepted
    finish.json     the outcome, until the relay has finally accepted or refused it
    finished        the relay has finally accepted or refused the outcome

The files that the job's own processes write (`pid.json`, `lock`, `task.log`, `result.json`) are described in
`task_host.job_files`, what a command answers (`result`) in `command_host.request`.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge_schemas.wire.content import MAX_CONTENT_BYTES, SentContent
from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.jobs import Job
from edge_worker.command_host.request import RESULT_FILE
from edge_worker.files import write_atomically
from edge_worker.task_host import job_files


@dataclass(frozen=True)
class JobDir:
    """Paths and small files of one job."""

    path: Path

    @property
    def log(self) -> Path:
        """The output of the task, as JSON lines."""
        return self.path / job_files.TASK_LOG

    @property
    def environment(self) -> Path:
        """The file that names the job's virtual environment."""
        return self.path / "environment"

    @property
    def was_launched(self) -> bool:
        """A process for the job exists or existed."""
        try:
            claim = job_files.read_claim(self.path)
        except (ValueError, TypeError):
            # Damaged. A process has claimed the job; a second start would be worse than a lost outcome.
            return True
        return claim is not None and claim.pid != 0

    @property
    def was_started(self) -> bool:
        """The relay confirmed that this worker holds the job."""
        return (self.path / "started").exists()

    @property
    def was_finished(self) -> bool:
        """The relay has finally accepted or refused the outcome."""
        return (self.path / "finished").exists()

    def create(self, job: Job, receipt: str) -> None:
        """Makes the folder of a granted job.

        Raises:
            OSError: The disk is full or read-only.
        """
        self.path.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.path / "receipt", receipt.encode(), durable=False)
        write_atomically(self.path / "job.json", job.model_dump_json().encode())

    def job(self) -> Job | None:
        """The job; None if the folder is incomplete.

        Raises:
            OSError: What is there cannot be read.
        """
        try:
            return Job.model_validate_json((self.path / "job.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def receipt(self) -> str:
        """The receipt of the grant; empty if it was not written.

        Raises:
            OSError: What is there cannot be read.
        """
        try:
            return (self.path / "receipt").read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def started_at(self) -> float | None:
        """When the start was confirmed, by the machine's wall clock; None if it was not."""
        try:
            return (self.path / "started").stat().st_mtime
        except FileNotFoundError:
            return None

    def mark_started(self) -> None:
        """Records the confirmed start; to be called before any process is launched."""
        write_atomically(self.path / "started", b"")

    def frozen_at(self) -> float | None:
        """When its processes were stopped, by the machine's wall clock; None if they may run."""
        try:
            return (self.path / "frozen").stat().st_mtime
        except FileNotFoundError:
            return None

    def mark_frozen(self) -> None:
        """Records the freeze; to be called before any process is stopped."""
        write_atomically(self.path / "frozen", b"", durable=False)

    def unmark_frozen(self) -> None:
        """Records that the freeze is over; to be called once all processes run again."""
        (self.path / "frozen").unlink(missing_ok=True)

    def final_state(self) -> str | None:
        """The state that Airflow accepted from the task."""
        try:
            return (self.path / "final_state").read_text(errors="replace") or None
        except FileNotFoundError:
            return None

    def put_final_state(self, state: str) -> None:
        """Records that a job's final state was accepted: from here on it must not be killed as unwanted."""
        write_atomically(self.path / "final_state", state.encode())

    def result(self) -> SentContent | None:
        """What a command answers to its producer: text if it is valid UTF-8.

        Nothing if there is too much of it, or if the command made something else than a file of its own in that place:
        a link, or a pipe, for which the agent would wait.
        """
        body = _read_own(self.path / RESULT_FILE, MAX_CONTENT_BYTES + 1)
        if body is None or len(body) > MAX_CONTENT_BYTES:
            return None
        try:
            return SentContent.of_text(body.decode())
        except UnicodeDecodeError:
            return SentContent.of(body)

    def finish(self) -> EndReport | None:
        """The outcome, if the relay does not have it yet."""
        try:
            return EndReport.model_validate_json((self.path / "finish.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def put_finish(self, finish: EndReport) -> None:
        """Stores the outcome before it is reported."""
        write_atomically(self.path / "finish.json", finish.model_dump_json().encode())

    def mark_finished(self) -> None:
        """Records that the outcome was delivered or finally refused."""
        write_atomically(self.path / "finished", b"")

    def log_offset(self) -> int:
        """Up to where the relay has the log, as last recorded; the relay may have more."""
        try:
            return int((self.path / "log_offset").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def put_log_offset(self, offset: int) -> None:
        """Records the offset without syncing the disk: a lost one costs a repeated chunk, which the relay trims."""
        write_atomically(self.path / "log_offset", str(offset).encode(), durable=False)


def _read_own(path: Path, most: int) -> bytes | None:
    """The beginning of a regular file; None if this is none, or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    except OSError:
        return None
    finally:
        os.close(descriptor)
