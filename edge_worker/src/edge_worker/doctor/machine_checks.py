"""The machine's resources for tasks: DAG files, a user with a name, disk, memory, file descriptors."""

import os
import pwd
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edge_service.findings import Finding, failed, ok, warning
from edge_worker.bundles.provider import bundle_store
from edge_worker.environment import task_environment
from edge_worker.machine.disk_watch import free_bytes
from edge_worker.machine.health import worker_health
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir

BUNDLES, PUBLISHED, USER = "bundles.folders", "bundles.published", "machine.user"
DISK, MEMORY, FILES = "machine.disk", "machine.memory", "machine.files"
_MIB = 1024 * 1024
AGENT_MIB = 150
"""The agent and a task host."""
TASK_MIB = 60
"""A small task, without the memory of user code."""
AGENT_FILES, FILES_PER_JOB = 64, 16
_ENOUGH_TO_SEE = 1000
_SHOWN = 3


def bundle_findings(settings: Settings) -> Iterable[Finding]:
    """One finding for each folder of DAG files."""
    if not settings.bundles:
        return [ok(BUNDLES, "no folder with DAG files is configured: only DAGs of published bundles run here")]
    return [_bundle(name, path) for name, path in settings.bundles.items()]


def _bundle(name: str, path: Path) -> Finding:
    advice = f"Copy the files of bundle {name!r} there, readable for the worker's user, or correct --bundles."
    try:
        with os.scandir(path) as entries:
            count = sum(1 for _, _ in zip(range(_ENOUGH_TO_SEE), _visible(entries), strict=False))
    except FileNotFoundError:
        return failed(BUNDLES, f"bundle {name!r}: {path} is not there", advice)
    except OSError as error:
        return failed(BUNDLES, f"bundle {name!r}: {path} cannot be read: {error.strerror}", advice)
    if not count:
        return failed(BUNDLES, f"bundle {name!r}: {path} is empty", advice)
    files = "1 file or folder" if count == 1 else f"{count} files and folders"
    return ok(BUNDLES, f"bundle {name!r}: {path} has {files}")


def published_finding(settings: Settings) -> Finding:
    """Which versions of published bundles are here."""
    try:
        versions = bundle_store(StateDir(settings.state_dir), settings).versions()
    except FileNotFoundError:
        versions = []
    except OSError as error:
        advice = "Run this as the worker's user. Without the agent, the folder may be removed: all is fetched again."
        return failed(PUBLISHED, f"{settings.state_dir / 'bundles'} cannot be read: {error.strerror}", advice)
    size = sum(version.size for version in versions)
    limit = f"{size // _MIB:,} of at most {settings.bundle_cache_max_bytes // _MIB:,} MiB"
    newest = sorted(versions, key=lambda version: version.used_at, reverse=True)[:_SHOWN]
    shown = ", ".join(f"{version.bundle or '?'} {version.digest[:12]}" for version in newest)
    what = (
        "1 version of a published bundle is"
        if len(versions) == 1
        else f"{len(versions)} versions of published bundles are"
    )
    last = f"; last used: {shown}" if shown else ""
    return ok(PUBLISHED, f"{what} here, with {limit}{last}")


def _visible(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in entries if not entry.name.startswith("."))


def user_finding(settings: Settings, environ: Mapping[str, str] | None = None) -> Finding:
    """Whether the worker's user has a name: Airflow runs no task without one."""
    variables = task_environment(settings, environ)
    name = variables.get("LOGNAME") or variables.get("USER")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            advice = "Airflow ends every task of such a user. Set a name: in /etc/passwd, or by the variable USER."
            return failed(USER, f"the user with the id {os.getuid()} has no name", advice)
    return ok(USER, f"tasks run as {name}")


def disk_finding(settings: Settings) -> Finding:
    """Whether the disk of the state folder has room."""
    path = next(place for place in (settings.state_dir, *settings.state_dir.parents) if place.exists())
    free = free_bytes(path)
    if free is None:
        return warning(DISK, f"the free space at {path} cannot be read", "Check it: df -h.")
    reserve = settings.disk_reserve_bytes
    detail = f"{free // _MIB:,} MiB are free at {path}, {reserve // _MIB} MiB are kept in reserve"
    if free < reserve:
        return failed(DISK, detail, "The worker accepts no jobs: free some space, or lower --disk-reserve-bytes.")
    if free < reserve + settings.spool_max_bytes:
        spool = f"Ended jobs and their logs may take {settings.spool_max_bytes // _MIB} MiB more (--spool-max-bytes)."
        return warning(DISK, detail, f"{spool} Then the worker accepts no jobs.")
    return ok(DISK, detail)


def memory_finding(settings: Settings) -> Finding:
    """Whether there is memory for as many tasks as slots."""
    health = worker_health(settings.state_dir)
    total, used = health.memory_total_bytes, health.memory_used_bytes
    if total is None or used is None:
        return ok(MEMORY, "the free memory of this system cannot be read")
    free, needed = (total - used) // _MIB, AGENT_MIB + TASK_MIB * settings.slots
    detail = f"{free:,} MiB are free; {settings.slots} slots need {needed:,} MiB, without the memory of user code"
    return ok(MEMORY, detail) if free >= needed else warning(MEMORY, detail, "Lower --slots, or add memory.")


def files_finding(settings: Settings) -> Finding:
    """Whether there are file descriptors for as many jobs as slots."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = AGENT_FILES + FILES_PER_JOB * settings.slots
    detail = f"this process may open {'any number of' if soft == resource.RLIM_INFINITY else soft} files"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ok(FILES, detail)
    advice = f"Raise the limit: `ulimit -n {needed}`, LimitNOFILE={needed} in a systemd unit, --ulimit in a container."
    short = f"{detail}; {settings.slots} slots need about {needed}"
    return failed(FILES, short, advice) if soft < AGENT_FILES else warning(FILES, short, advice)
