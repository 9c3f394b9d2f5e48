"""Makes a runtime: beside the one that counts, tried out, and only then put in its place."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from edge_worker.host_client.launcher import MAIN, HostSetup
from edge_worker.runtime_install.faults import Fault, explain
from edge_worker.runtime_install.folder import RuntimeFacts, RuntimeFolder, size_bytes
from edge_worker.runtime_install.installer import Failed, Installer, free_bytes
from edge_worker.runtime_install.order import Order
from edge_worker.settings import Settings, SettingsError, installer_environment, task_environment

USUAL_BYTES = 310 * 10**6
"""What Airflow 3.3 with the providers that it requires takes, bytecode included (measured: 305 MB)."""
BESIDES_BYTES = 150 * 10**6
"""For wheels that are being unpacked, and for pip's log."""
_OLDEST, _TOO_NEW = (3, 11), (3, 14)
_ASK_PYTHON = (
    "import json, os, platform, sys; "
    "print(json.dumps([list(sys.version_info[:2]), platform.python_version(), "
    "os.path.realpath(getattr(sys, '_base_executable', sys.executable))]))"
)
_ASK_AIRFLOW = "from importlib.metadata import version; print(version('apache-airflow-core'))"
_TRY = """
import json, sys, types
worker = types.ModuleType("edge_worker")
worker.__path__ = [sys.argv[1]]
sys.modules["edge_worker"] = worker
from edge_worker.task_host.preload import preload
version = preload("runtime-install")
print("\\n" + json.dumps({"airflow": version}), flush=True)
"""
"""Imports what a task host does, in the way that one does."""

Say = Callable[[str], None]


class InstallFailed(Exception):
    """Nothing was put in place; what there was still works."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.layer}: {fault.detail}")
        self.fault = fault


@dataclass(frozen=True)
class Source:
    """Where packages come from.

    Attributes:
        wheels: A folder with all of them; nothing is asked of an index then.
        index_url: Instead of the one that pip knows; may hold a password.
    """

    wheels: Path | None = None
    index_url: str | None = None

    def __str__(self) -> str:
        if self.wheels is not None:
            return f"the wheels in {self.wheels}"
        if self.index_url is None:
            return "the package index that pip is set up for"
        parts = urlsplit(self.index_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def arguments(self) -> list[str]:
        """For pip. An address may hold a password and goes another way."""
        return [] if self.wheels is None else ["--no-index", "--find-links", str(self.wheels)]

    @property
    def unwanted(self) -> tuple[str, ...]:
        """Variables that would add other places."""
        return () if self.wheels is None else ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


@dataclass(frozen=True)
class Python:
    """The interpreter that a runtime is made of.

    Attributes:
        base: Its own file, where it is itself one of a virtual environment.
    """

    path: Path
    version: str
    base: str


@dataclass(frozen=True)
class Done:
    """How an installation ended well.

    Attributes:
        is_new: False if there was nothing to do.
        kept: Older runtimes that something still runs from.
    """

    facts: RuntimeFacts
    is_new: bool
    kept: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Installation:
    """One run of `edge-worker runtime install`.

    Attributes:
        python: The interpreter to make the runtime of.
        say: Told each step, for people.
    """

    order: Order
    python: Path
    source: Source
    folder: RuntimeFolder
    settings: Settings
    say: Say

    def run(self) -> Done:
        """Make the runtime that the order names, unless it is there.

        Raises:
            InstallFailed: What there was before still counts.
            Busy: Another installation is under way.
            SettingsError: The Python or a setting won't do.
            OSError: The folder can't be written.
        """
        python = _look_at(self.python)
        made_of = self.order.made_of(f"{python.version} {python.base}")
        folder = self.folder
        with folder.locked():
            folder.remove_torsos()
            known = folder.current()
            if known is not None and known[1].made_of == made_of and _works(known[0], known[1].airflow):
                return Done(known[1], is_new=False, kept=tuple(folder.remove_old()))
            self._check_room()
            draft = folder.draft(self.order.airflow)
            try:
                facts = self._build(draft, python, made_of)
                folder.complete(draft, facts)
            except BaseException:
                folder.discard(draft)
                raise
            return Done(facts, is_new=True, kept=tuple(folder.remove_old()))

    def _check_room(self) -> None:
        where, free = self.folder.path, free_bytes(self.folder.path)
        self.say(f"This takes about {megabytes(USUAL_BYTES)} in {where}; {megabytes(free)} are free.")
        if free < USUAL_BYTES + BESIDES_BYTES:
            detail = f"{megabytes(USUAL_BYTES + BESIDES_BYTES)} are needed while it installs, not so much is free"
            raise InstallFailed(Fault("disk", detail, "Make room, or name a folder elsewhere with --dir."))

    def _build(self, draft: Path, python: Python, made_of: str) -> RuntimeFacts:
        """Everything up to a runtime that works."""
        began = time.monotonic()
        installer = Installer.prepare(self.settings, draft, self.folder.log, index_url=self.source.index_url)
        try:
            self.say(f"Making an environment of {python.path} (Python {python.version}).")
            installer.run([python.path, "-I", "-m", "venv", draft])
            self._fill(draft, installer)
            self.say("Trying it: importing what a task host imports.")
            self._try(draft, installer)
        except Failed:
            raise InstallFailed(explain(installer.keep_log())) from None
        self.folder.log.unlink()
        shutil.rmtree(draft / "tmp")
        return RuntimeFacts(
            airflow=self.order.airflow,
            python=python.version,
            base_python=python.base,
            made_of=made_of,
            lock_sha256=None if self.order.lock is None else self.order.lock.digest,
            packages=len(list(draft.glob("lib/python3*/site-packages/*.dist-info"))),
            size_bytes=size_bytes(draft),
            seconds=round(time.monotonic() - began, 1),
            source=str(self.source),
            installed_at=datetime.now(UTC),
        )

    def _fill(self, draft: Path, installer: Installer) -> None:
        """Have pip install."""
        requirements = draft / "requirements.txt"
        requirements.write_text(self.order.requirements)
        lock = "" if self.order.lock is None else f", by a lock of {self.order.lock.requirements} requirements"
        self.say(f"Installing Airflow {self.order.airflow}{lock} from {self.source}: takes a minute or several.")
        options = ["--quiet", "--progress-bar", "off", "--compile", "--log", str(installer.log)]
        # A package without a wheel would be built here: by its own code, with a compiler that is not there.
        options += ["--only-binary", ":all:", *self.source.arguments(), "--requirement", str(requirements)]
        command = [str(draft / "bin" / "python"), "-I", "-m", "pip", "install", *options]
        installer.run(command, without=self.source.unwanted)

    def _try(self, draft: Path, installer: Installer) -> None:
        """Import what a task host imports, in its environment; that writes what bytecode was missing, too."""
        python, temporary = draft / "bin" / "python", draft / "tmp"
        environment = task_environment(self.settings)
        setup = HostSetup(python, temporary, temporary, temporary / "none", environment, {}, "runtime-install")
        trial = Installer({**setup.environment(), "AIRFLOW_HOME": str(temporary)}, installer.log)
        found = json.loads(trial.run([python, "-c", _TRY, MAIN.parent]).strip().splitlines()[-1])["airflow"]
        if found != self.order.airflow:
            detail = f"the runtime has Airflow {found} and not {self.order.airflow}"
            raise InstallFailed(Fault("versions", detail, "Mend the lock, or the index that it comes from."))


def _look_at(path: Path) -> Python:
    """The interpreter, if it will do.

    Raises:
        SettingsError: It won't.
    """
    try:
        told = subprocess.run(
            [str(path), "-I", "-c", _ASK_PYTHON],
            capture_output=True,
            check=True,
            env=installer_environment(),
            timeout=60,
        )
        number, version, base = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SettingsError(f"--python: {path} is no Python that starts: {error}") from None
    if not _OLDEST <= tuple(number) < _TOO_NEW:
        raise SettingsError(f"--python: {path} is Python {version}; a runtime needs 3.11, 3.12 or 3.13")
    return Python(path, version, base)


def _works(runtime: Path, airflow: str) -> bool:
    """A quick look: it starts and has its Airflow."""
    try:
        told = subprocess.run(
            [str(runtime / "bin" / "python"), "-I", "-c", _ASK_AIRFLOW],
            capture_output=True,
            check=True,
            env=installer_environment(),
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return told.stdout.decode().strip() == airflow


def megabytes(size: int) -> str:
    """For people; decimal, as disks are sold."""
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"


def index_without_password(url: str) -> str:
    """An index address from the command line, where everybody on the machine reads it.

    Raises:
        SettingsError: It holds a user, or is no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "file"} or (parts.scheme != "file" and not parts.hostname):
        raise SettingsError("--index-url must look like https://mirror.example.com/simple")
    if parts.username is not None:
        raise SettingsError(
            "--index-url must not hold a user or a password, for every user of the machine reads arguments: give it by "
            "PIP_INDEX_URL, or put them into ~/.netrc"
        )
    return url
