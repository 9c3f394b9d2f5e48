"""Gives each job the folder with the packages that its code requires, made once for all jobs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge_schemas.wire.jobs import Job
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.files.folders import remove_tree
from edge_worker.bundles.unavailable import CodeUnavailable, cannot_be_kept
from edge_worker.environments.rules import constraints, environment_key, read_requirements
from edge_worker.environments.store import VENV, EnvironmentStore
from edge_worker.environments.uv import Output, find_uv, run_uv, uv_variables
from edge_worker.files import write_atomically
from edge_worker.host_client.launcher import installed_distributions, site_folders
from edge_worker.log import EventLog
from edge_worker.settings import Settings, SettingsError
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir

BUILD_S = 900.0
"""The longest that a build may take."""
PRUNE_EVERY_S = 3600.0
_BEHIND = "edge_relay_runtime.pth"

_REQUIREMENTS, _CONSTRAINTS = "requirements.txt", "constraints.txt"

Say = Callable[[str], None]

log = EventLog("edge_worker.environments.provider")


def environments_of(state: StateDir, settings: Settings, disk: Disk, group: asyncio.TaskGroup) -> "Environments":
    """Those in a state folder."""
    store = EnvironmentStore(state.environments, partial(environments_in_use, state), settings.bundle_keep_days * 86400)
    return Environments(settings, store, disk, group)


def environments_in_use(state: StateDir) -> set[str]:
    """The names of the environments that the folders of jobs name.

    Raises:
        OSError: A folder can't be read: what it names is not known.
    """
    named = (job_dir.environment for job_dir in state.job_dirs())
    return {path.read_text(errors="replace") for path in named if path.exists()}


class _Build:
    """A build and the jobs that wait for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Exception | None]
        self.waiting: list[Say] = []
        self._said: list[str] = []

    def say(self, line: str) -> None:
        """Tell each of them; `Output` bounds the lines."""
        self._said.append(line)
        for say in self.waiting:
            say(line)

    def join(self, say: Say) -> None:
        """One more waits, and is told what was said."""
        self.waiting.append(say)
        for line in self._said:
            say(line)


@dataclass
class Environments:
    """The environments of this worker's jobs.

    Attributes:
        group: Where the builds run.
        disk: All that is done with environments on the disk is done in order.
    """

    settings: Settings
    store: EnvironmentStore
    disk: Disk
    group: asyncio.TaskGroup
    _builds: dict[str, _Build] = field(default_factory=dict)

    async def packages_of(self, job: Job, job_dir: JobDir, code: Path | None, say: Say) -> Path | None:
        """The environment of a job; None if its code requires nothing.

        Args:
            job: See `job_dir`.
            job_dir: Of the job; names the environment from here on, which keeps it from being removed.
            code: The folder with the job's code.
            say: Writes a line into the task's log.

        Raises:
            CodeUnavailable: It can't be made.
        """
        path = None if job.bundle is None else job.bundle.requirements
        if code is None or path is None:
            return None
        if not self.settings.bundle_requirements:  # granted to an earlier run of the agent
            raise CodeUnavailable("its owner does not allow requirements of code (EDGE_WORKER_BUNDLE_REQUIREMENTS)")
        python = self.settings.runtime_python
        try:
            requirements = await self.disk.do(lambda: read_requirements(code, path))
            key = environment_key(requirements, python, await self.disk.do(lambda: installed_distributions(python)))
            found = await self.disk.do(lambda: self._take(key, job_dir))
            if found is None:
                await self._built(key, requirements, say)
                found = await self.disk.do(lambda: self._take(key, job_dir))
        except OSError as error:
            raise cannot_be_kept(error) from error
        if found is None:
            raise CodeUnavailable("the environment was removed after it was made", releases=True)
        say(f"Edge worker: has the packages of {path} (environment {key[:12]})")
        return found / VENV

    async def run(self) -> None:
        """Remove what is no longer needed, now and every hour. Until cancelled."""
        while True:
            await self._prune()
            await asyncio.sleep(PRUNE_EVERY_S)

    def _take(self, key: str, job_dir: JobDir) -> Path | None:
        folder = self.store.find(key)
        if folder is not None:
            write_atomically(job_dir.environment, folder.name.encode(), durable=False)
        return folder

    async def _prune(self) -> None:
        try:
            await self.disk.do(self.store.prune)
        except OSError as error:
            log.warning("environments_not_pruned", error=str(error))

    async def _built(self, key: str, requirements: bytes, say: Say) -> None:
        """Wait for a build, which ends when no job waits any more."""
        build = self._builds.get(key)
        if build is None:
            build = self._builds[key] = _Build()
            build.task = self.group.create_task(self._build(key, requirements, build.say), name=f"environment-{key}")
            build.task.add_done_callback(lambda _: self._forget(key, build))
        build.join(say)
        try:
            await asyncio.wait([build.task])
        finally:
            build.waiting.remove(say)
            if not build.waiting:
                self._forget(key, build)
                build.task.cancel()
        if (error := build.task.result()) is not None:
            raise error

    async def _build(self, key: str, requirements: bytes, say: Say) -> Exception | None:
        """Make an environment; returns why there is none."""
        say("Edge worker: makes an environment with the packages that the code requires")
        try:
            async with asyncio.timeout(BUILD_S):
                await self._make(key, requirements, say)
        except TimeoutError:
            reason: Exception = CodeUnavailable(f"uv has not ended within {BUILD_S:.0f} s")
        except OSError as error:
            reason = cannot_be_kept(error)
        except (CodeUnavailable, SettingsError) as error:
            reason = CodeUnavailable(str(error))
        except Exception as error:
            # A fault of each job; the agent continues.
            log.exception("environment_fault", environment=key)
            reason = error
        else:
            log.info("environment_made", environment=key)
            await self._prune()
            return None
        log.warning("environment_not_made", environment=key, reason=str(reason))
        return reason

    async def _make(self, key: str, requirements: bytes, say: Say) -> None:
        uv, python = find_uv(), self.settings.runtime_python
        if uv is None:
            raise CodeUnavailable(
                "uv is not installed: install edge-relay-worker[requirements], or put uv into the worker's PATH"
            )
        folder = await self.disk.do(lambda: self.store.begin(key))
        try:
            variables = await self.disk.do(lambda: _prepare(self.settings, folder, requirements))
            venv, output = folder / VENV, Output(say)
            await run_uv([uv, "venv", "--no-project", "--python", python, venv], variables, folder, output)
            install: list[str | Path] = [uv, "pip", "install", "--python", venv / "bin" / "python"]
            # No task can do that later: the environment is read-only.
            install.append("--compile-bytecode")
            files = ["--requirements", _REQUIREMENTS, "--constraints", _CONSTRAINTS]
            await run_uv([*install, *files], variables, folder, output)
            await self.disk.do(lambda: self._finish(folder))
        except BaseException:
            self.disk.soon(lambda: self.store.give_up(folder))
            raise

    def _finish(self, folder: Path) -> None:
        """Let the environment's own interpreter find the runtime's packages, too, behind its own."""
        # Not in a job's process, which has the runtime's packages.
        lines = (
            f"import site, sys; {path!r} in sys.path or site.addsitedir({path!r})\n"
            for path in map(str, site_folders(self.settings.runtime_python))
        )
        code = "".join(lines)
        for packages in site_folders(folder / VENV / "bin" / "python"):
            (packages / _BEHIND).write_text(code)
        remove_tree(folder / "tmp")
        self.store.complete(folder)

    def _forget(self, key: str, build: _Build) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]


def _prepare(settings: Settings, folder: Path, requirements: bytes) -> dict[str, str]:
    """Write what uv reads; returns its environment."""
    (folder / _REQUIREMENTS).write_bytes(requirements)
    (folder / _CONSTRAINTS).write_text(constraints(installed_distributions(settings.runtime_python)))
    return uv_variables(settings, folder)
