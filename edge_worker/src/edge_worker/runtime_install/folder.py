"""The folder of runtimes: each in a folder of its own, and a link to the current one.

current -> 3.3.2-x7k2m9     replaced in one step, once the runtime is complete
3.3.2-x7k2m9/               a virtual environment
3.3.2-x7k2m9/runtime.json   written last: a runtime without it is incomplete, and the next installation removes it
install.log                 of the last installation, if it failed or is running
lock                        held by a running installation
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_schemas.wire.base import Instant
from edge_worker.files import write_atomically

FACTS = "runtime.json"
_CURRENT = "current"
_OURS = ".edge-worker"
"""Marks a folder that an installation has made, complete or not: nothing else is ever removed."""


class Busy(Exception):
    """Another installation is running in this folder."""


class RuntimeFacts(BaseModel):
    """The result of an installation.

    Attributes:
        made_of: Fingerprint of the order: version, lock, Python.
        lock_sha256: Of the lock; None if there was none.
        source: Where the packages came from, without credentials.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    airflow: str
    python: str
    base_python: str
    made_of: str
    lock_sha256: str | None
    packages: int
    size_bytes: int
    seconds: float
    source: str
    installed_at: Instant


class RuntimeFolder:
    """The runtimes of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "install.log"

    @property
    def python(self) -> Path:
        """The interpreter's path for the settings; installations do not change it."""
        return self.path / _CURRENT / "bin" / "python"

    def current(self) -> tuple[Path, RuntimeFacts] | None:
        """The current runtime, if there is one."""
        folder = (self.path / _CURRENT).resolve()
        facts = _facts(folder)
        return None if facts is None else (folder, facts)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other installations out of the folder.

        Raises:
            Busy: Another installation is running.
            OSError: The folder cannot be made or written.
        """
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another installation is running in {self.path}") from None
            yield

    def draft(self, airflow: str) -> Path:
        """A new folder to build in, at its final place, because a virtual environment can't be moved."""
        name = "".join(char if char.isalnum() or char in ".-" else "_" for char in airflow)[:40]
        draft = self.path / f"{name}-{secrets.token_hex(3)}"
        draft.mkdir(mode=0o755)
        (draft / _OURS).touch()
        return draft

    def complete(self, draft: Path, facts: RuntimeFacts) -> None:
        """Makes a finished draft the current runtime."""
        # The files are synced before the mark of a complete runtime: a power cut must not leave the mark without them.
        os.sync()
        write_atomically(draft / FACTS, facts.model_dump_json(indent=2).encode() + b"\n")
        link = self.path / f".{_CURRENT}-{secrets.token_hex(3)}"
        link.symlink_to(draft.name, target_is_directory=True)
        link.replace(self.path / _CURRENT)
        os.sync()

    def discard(self, draft: Path) -> None:
        """Removes a failed draft, unless it is already the current runtime."""
        if (self.path / _CURRENT).resolve() != draft.resolve():
            shutil.rmtree(draft, ignore_errors=True)

    def remove_incomplete(self) -> None:
        """Removes incomplete runtimes. Only while `locked`: otherwise an installation may be building one."""
        for entry in self._folders():
            if _facts(entry) is None:
                shutil.rmtree(entry, ignore_errors=True)
        for link in self.path.glob(f".{_CURRENT}-*"):
            link.unlink(missing_ok=True)

    def remove_old(self) -> list[Path]:
        """Removes old runtimes; returns those that are kept because a process still uses them."""
        current = (self.path / _CURRENT).resolve()
        old = [entry for entry in self._folders() if entry != current]
        busy = [entry for entry in old if _is_in_use(entry)]
        for entry in old:
            if entry not in busy:
                shutil.rmtree(entry, ignore_errors=True)
        return busy

    def _folders(self) -> list[Path]:
        """All runtimes, complete or not. Nothing else in the folder may be removed."""
        entries = [entry.resolve() for entry in self.path.iterdir() if entry.is_dir() and not entry.is_symlink()]
        return [entry for entry in entries if (entry / _OURS).exists()]


def size_bytes(folder: Path) -> int:
    """The disk space of a folder."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for root, _, files in os.walk(folder):
        for name in (".", *files):
            status = os.lstat(Path(root) / name)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def _facts(folder: Path) -> RuntimeFacts | None:
    try:
        return RuntimeFacts.model_validate_json((folder / FACTS).read_bytes())
    except (OSError, ValidationError):
        return None


def _is_in_use(folder: Path) -> bool:
    """Whether a process was started from it, for example a task host with tasks; True where this is unknown."""
    processes = Path("/proc")
    if not (processes / "self" / "cmdline").exists():
        return True
    mark = os.fsencode(folder) + b"/"
    for process in processes.iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue  # the process has ended meanwhile
            if command.startswith(mark):
                return True
    return False
