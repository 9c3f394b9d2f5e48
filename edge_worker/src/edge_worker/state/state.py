"""The state folder: who this worker is, how often it was started, and the folders of its jobs.

worker.json     identity and credential, mode 0600
enrolling.json  the secret of an enrolment whose answer has not arrived yet, mode 0600
incarnation     rises with every start
lock            held by the running agent
control         the path of the running agent's control socket; see `control`
owner.json      the pause of the machine's owner, while there is one
jobs/<job>/     a job that the worker has or had; see `job_dir`
bundles/        versions of published bundles; see `bundles.store`
environments/   virtual environments for the code of bundles; see `environments.store`
ended/<job>/    kept for `log_keep_days`, and as long as there is room (`spool_max_bytes`)
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

from pydantic import ValidationError

from edge_schemas.wire.base import Outbound
from edge_schemas.wire.workers import Enrollment
from edge_worker.files import write_atomically
from edge_worker.log import EventLog
from edge_worker.settings import SettingsError
from edge_worker.state.ended_jobs import EndedJobs
from edge_worker.state.job_dir import JobDir
from edge_worker.state.task_group import let_in
from edge_worker.task_host.job_files import boot_id

_Model = TypeVar("_Model", bound=Outbound)
log = EventLog("edge_worker.state.state")


class Identity(Outbound):
    """The result of the enrolment, with the worker's credential. Contains secrets: never log it.

    Attributes:
        rotation: The last rotation that `secret` is the result of.
        next_secret: Made for `next_rotation`; the relay may know its hash already.
    """

    relay_url: str
    secret: str
    enrollment: Enrollment
    rotation: int = 0
    next_secret: str | None = None
    next_rotation: int = 0


class PendingEnrollment(Outbound):
    """A secret whose hash was sent, or may have been sent, to a relay.

    The next try uses it again, which makes a repetition harmless.
    """

    relay_url: str
    secret: str


class StateDir:
    """The state folder of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = path / "worker.json"
        self._pending = path / "enrolling.json"
        self._jobs = path / "jobs"
        self._ended = path / "ended"
        self.bundles = path / "bundles"
        self.environments = path / "environments"

    def prepare(self, task_group: str | None = None) -> None:
        """Makes the folders.

        Args:
            task_group: A Unix group; see `task_group.let_in`.

        Raises:
            SettingsError: A folder cannot be made or written, or given to the group.
        """
        try:
            for folder in (self.path, self._jobs, self._ended):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if task_group is None:
                self.path.chmod(0o700)
            else:
                let_in(task_group, state=self.path, bundles=self.bundles, environments=self.environments)
        except OSError as error:
            msg = f"state_dir {self.path} cannot be used: {error}"
            raise SettingsError(msg) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second agent from using this folder.

        Raises:
            SettingsError: Another agent holds it, or it cannot be opened.
        """
        try:
            opened = (self.path / "lock").open("a")
        except OSError as error:
            msg = f"state_dir {self.path} cannot be used: {error}"
            raise SettingsError(msg) from None
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"another edge-worker uses the state folder {self.path}; give each its own --state-dir"
                raise SettingsError(msg) from None
            yield

    def identity(self) -> Identity | None:
        """Who this worker is; None before enrolment.

        Raises:
            SettingsError: The file is damaged.
        """
        return _read(self._identity, Identity)

    def pending_enrollment(self) -> PendingEnrollment | None:
        """The enrolment that was begun and not completed."""
        return _read(self._pending, PendingEnrollment)

    def begin_enrollment(self, pending: PendingEnrollment) -> None:
        """Stores the secret before it is used."""
        write_atomically(self._pending, pending.model_dump_json().encode())

    def complete_enrollment(self, identity: Identity) -> None:
        """Stores the identity; from here on the worker is enrolled."""
        write_atomically(self._identity, identity.model_dump_json().encode())
        self._pending.unlink(missing_ok=True)

    def next_incarnation(self) -> int:
        """Higher than at any earlier start, also after the folder was restored from a copy."""
        file = self.path / "incarnation"
        try:
            last = int(file.read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        incarnation = max(last + 1, int(time.time()))
        write_atomically(file, str(incarnation).encode())
        return incarnation

    def instance(self) -> str:
        """Identifies this machine, its boot and this folder; empty where the machine has neither id.

        Another machine, a copy of the folder and a later boot have other identifiers, so an agent with the same one has
        held the lock of this folder after this agent.
        """
        machine, boot = machine_id(), boot_id()
        if not machine and not boot:
            return ""
        found = self.path.stat()
        return hashlib.sha256(f"{machine} {boot} {found.st_dev}:{found.st_ino}".encode()).hexdigest()[:32]

    def job_dir(self, job_id: str) -> JobDir:
        """The folder of a job, which need not exist."""
        return JobDir(self._jobs / job_id)

    def job_dirs(self) -> list[JobDir]:
        """The folders of the jobs that an earlier run of the agent left."""
        return [JobDir(path) for path in sorted(self._jobs.iterdir()) if path.is_dir()]

    def bundles_in_use(self) -> set[str]:
        """The digests of the bundles' versions that the folders of jobs name.

        Raises:
            OSError: A folder can't be read: what it names is not known.
        """
        jobs = (job_dir.job() for job_dir in self.job_dirs())
        return {job.bundle.digest for job in jobs if job is not None and job.bundle is not None}

    def archive(self, job_dir: JobDir) -> None:
        """Moves the folder of an ended job to the ended ones, and replaces that of an earlier tenure of the same job.

        Raises:
            OSError: It stays where it is.
        """
        target = self._ended / job_dir.path.name
        if target.exists():
            rmtree(target, ignore_errors=True)
        if target.exists():
            # A file in it cannot be removed: user code may have run as another user.
            target = target.with_name(f"{target.name}.{time.time_ns()}")
        os.utime(job_dir.path)
        job_dir.path.rename(target)

    def ended_jobs(self, *, max_bytes: int) -> EndedJobs:
        """The folders of ended jobs, with the limit for their size."""
        return EndedJobs(self._ended, self._jobs, max_bytes)

    def clean_up(self, *, keep_days: float, now: float) -> None:
        """Removes ended jobs that are older than `keep_days`. A folder that cannot be removed stays and is logged.

        Not for the event loop: after weeks without an agent there may be thousands of them.
        """
        try:
            paths = list(self._ended.iterdir())
        except OSError as error:
            log.warning("ended_jobs_not_listed", path=str(self._ended), error=str(error))
            return
        for path in paths:
            try:
                if now - path.stat().st_mtime >= keep_days * 86400:
                    rmtree(path)
            except OSError as error:
                log.warning("ended_job_not_removed", path=str(path), error=str(error))


def machine_id() -> str:
    """The id of the installed system; empty where there is none. It must be hashed before it is sent anywhere."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _read(path: Path, model: type[_Model]) -> _Model | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        # A validation error would quote the file, including the secret.
        why = str(error) if isinstance(error, OSError) else "it is damaged"
        msg = f"{path} cannot be read: {why}"
        raise SettingsError(msg) from None
