"""Makes a runtime next to the current one, tests it, and only then makes it the current one."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_worker.environment import task_environment
from edge_worker.host_client.launcher import MAIN, HostSetup
from edge_worker.runtime_install.faults import Fault, explain
from edge_worker.runtime_install.folder import RuntimeFacts, RuntimeFolder, size_bytes
from edge_worker.runtime_install.installer import Failed, Installer, free_bytes
from edge_worker.runtime_install.interpreter import Python, has_airflow, inspect_python
from edge_worker.runtime_install.order import Order
from edge_worker.runtime_install.source import Source
from edge_worker.settings import Settings

USUAL_BYTES = 310 * 10**6
"""The size of Airflow 3.3 with the providers that it requires, including bytecode (measured: 305 MB)."""
TEMPORARY_BYTES = 150 * 10**6
"""For wheels while they are unpacked, and for pip's log."""
_TRY = """
import json, sys, types
worker = types.ModuleType("edge_worker")
worker.__path__ = [sys.argv[1]]
sys.modules["edge_worker"] = worker
from edge_worker.task_host.preload import preload
version = preload("runtime-install")
print("\\n" + json.dumps({"airflow": version}), flush=True)
"""
"""Imports what a task host imports, in the same way."""


class InstallFailed(Exception):
    """The installation failed; the current runtime is unchanged."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.layer}: {fault.detail}")
        self.fault = fault


@dataclass(frozen=True)
class Installed:
    """The result of a successful installation.

    Attributes:
        is_new: False if there was nothing to do.
        kept: Older runtimes that processes still use.
    """

    facts: RuntimeFacts
    is_new: bool
    kept: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Installation:
    """One run of `edge-worker runtime install`.

    Attributes:
        python: The interpreter to make the runtime of.
        report: Called with each step, in words for people.
    """

    order: Order
    python: Path
    source: Source
    folder: RuntimeFolder
    settings: Settings
    report: Callable[[str], None]

    def run(self) -> Installed:
        """Makes the runtime that the order names, unless it exists.

        Raises:
            InstallFailed: The installation failed; the current runtime is unchanged.
            Busy: Another installation is running.
            SettingsError: The Python or a setting cannot be used.
            OSError: The folder can't be written.
        """
        python = inspect_python(self.python)
        made_of = self.order.made_of(f"{python.version} {python.base}")
        folder = self.folder
        with folder.locked():
            folder.remove_incomplete()
            known = folder.current()
            if known is not None and known[1].made_of == made_of and has_airflow(known[0], known[1].airflow):
                return Installed(known[1], is_new=False, kept=tuple(folder.remove_old()))
            self._check_room()
            draft = folder.draft(self.order.airflow)
            try:
                facts = self._build(draft, python, made_of)
                folder.complete(draft, facts)
            except BaseException:
                folder.discard(draft)
                raise
            return Installed(facts, is_new=True, kept=tuple(folder.remove_old()))

    def _check_room(self) -> None:
        where, free = self.folder.path, free_bytes(self.folder.path)
        self.report(f"This takes about {megabytes(USUAL_BYTES)} in {where}; {megabytes(free)} are free.")
        if free < USUAL_BYTES + TEMPORARY_BYTES:
            detail = f"{megabytes(USUAL_BYTES + TEMPORARY_BYTES)} are needed during the installation, less is free"
            raise InstallFailed(Fault("disk", detail, "Free some space, or choose another folder with --dir."))

    def _build(self, draft: Path, python: Python, made_of: str) -> RuntimeFacts:
        """Builds a runtime and tests it."""
        began = time.monotonic()
        installer = Installer.prepare(self.settings, draft, self.folder.log, index_url=self.source.index_url)
        try:
            self.report(f"Making an environment of {python.path} (Python {python.version}).")
            installer.run([python.path, "-I", "-m", "venv", draft])
            self._fill(draft, installer)
            self.report("Testing it: importing what a task host imports.")
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
        """Runs pip."""
        requirements = draft / "requirements.txt"
        requirements.write_text(self.order.requirements)
        lock = "" if self.order.lock is None else f", with a lock of {self.order.lock.requirements} requirements"
        self.report(f"Installing Airflow {self.order.airflow}{lock} from {self.source}: takes a minute or several.")
        options = ["--quiet", "--progress-bar", "off", "--compile", "--log", str(installer.log)]
        # A package without a wheel would be built here: by its own code, with a compiler that may be missing.
        options += ["--only-binary", ":all:", *self.source.arguments(), "--requirement", str(requirements)]
        command = [str(draft / "bin" / "python"), "-I", "-m", "pip", "install", *options]
        installer.run(command, without=self.source.unwanted)

    def _try(self, draft: Path, installer: Installer) -> None:
        """Imports what a task host imports, in its environment; this also writes missing bytecode."""
        python, temporary = draft / "bin" / "python", draft / "tmp"
        environment = task_environment(self.settings)
        setup = HostSetup(python, temporary, temporary, temporary / "none", environment, {}, "runtime-install")
        trial = Installer({**setup.environment(), "AIRFLOW_HOME": str(temporary)}, installer.log)
        found = json.loads(trial.run([python, "-c", _TRY, MAIN.parent]).strip().splitlines()[-1])["airflow"]
        if found != self.order.airflow:
            detail = f"the runtime has Airflow {found} and not {self.order.airflow}"
            raise InstallFailed(Fault("versions", detail, "Correct the lock, or the index."))


def megabytes(size: int) -> str:
    """A size for people, in decimal units."""
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"
