"""The agent's folders: can it write them, does an agent use them, who is this worker?"""

import os
import pwd
import stat
import tempfile
from pathlib import Path

from edge_service.findings import Finding, failed, ok, warning
from edge_worker.settings import Settings, SettingsError
from edge_worker.state.agent_lock import lock_holder
from edge_worker.state.runtime_dir import MAX_SOCKET_PATH_BYTES, SOCKET_NAME, prepare_runtime_dir, runtime_dir_of
from edge_worker.state.state import Identity, StateDir

FOLDER, AGENT, IDENTITY, SOCKETS = "state.folder", "state.agent", "identity.file", "runtime-dir.sockets"


def folder_finding(path: Path) -> Finding:
    """Whether the state folder can be used; no folder is made."""
    elsewhere = "or keep the state elsewhere (--state-dir)."
    try:
        found = path.stat()
    except FileNotFoundError:
        return _not_there_yet(path)
    except OSError as error:
        return failed(FOLDER, f"{path}: {error.strerror}", f"Run this as the worker's user, {elsewhere}")
    if not stat.S_ISDIR(found.st_mode):
        return failed(FOLDER, f"{path} is not a folder", f"Move it away, {elsewhere}")
    if found.st_uid != os.geteuid():
        return _of_another_user(path, found.st_uid)
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"?")
    except OSError as error:
        advice = f"Allow {_user(os.geteuid())} to write it: owner, mode and mount (read-only? full?), {elsewhere}"
        return failed(FOLDER, f"{path} cannot be written: {error.strerror}", advice)
    if stat.S_IMODE(found.st_mode) & 0o067:  # a group may enter: `task_group`
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        return warning(FOLDER, f"{path} has mode {mode}: others can read it", f"chmod 0700 {path}")
    return ok(FOLDER, f"{path} can be written")


def _not_there_yet(path: Path) -> Finding:
    parent = next(parent for parent in path.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        advice = (
            f"Make it: install -d -m 700 -o {_user(os.geteuid())} {path}; or keep the state elsewhere (--state-dir)."
        )
        return failed(FOLDER, f"{path} is not there and cannot be made in {parent}", advice)
    return ok(FOLDER, f"{path} is not there yet; `edge-worker enroll` makes it")


def _of_another_user(path: Path, owner: int) -> Finding:
    user, own = _user(owner), _user(os.geteuid())
    detail = f"{path} belongs to {user}, and this runs as {own}"
    advice = f"Run the doctor as the agent runs: sudo -u {user} edge-worker doctor."
    # Root can read the folder anyway; what it finds may not apply to the agent.
    return (warning if os.geteuid() == 0 else failed)(FOLDER, detail, advice)


def agent_finding(path: Path) -> Finding:
    """Whether an agent uses the state folder."""
    try:
        holder = lock_holder(path)
    except OSError:
        return ok(AGENT, "no agent runs on this state folder")
    if holder is None:
        return ok(AGENT, "no agent runs on this state folder, as far as this process can see")
    return ok(AGENT, f"an agent runs on this state folder, process {holder}; it is not disturbed")


def identity_finding(state: StateDir) -> tuple[Finding, Identity | None]:
    """Who this worker is."""
    try:
        identity = state.identity()
        pending = state.pending_enrollment() if identity is None else None
    except SettingsError as error:
        advice = "Run this as the worker's user. A damaged file is replaced by `edge-worker enroll --renew`."
        return failed(IDENTITY, str(error), advice), None
    if identity is not None:
        worker = identity.enrollment
        return ok(IDENTITY, f"enrolled as {worker.worker} at site {worker.site}"), identity
    begun = f"; an enrolment at {pending.relay_url} was started and not completed" if pending else ""
    advice = "Enrol it: edge-worker enroll --relay https://relay.example.com, with a token from an operator."
    return warning(IDENTITY, f"this machine is not enrolled{begun}", advice), None


def sockets_finding(settings: Settings) -> Finding:
    """Whether the folder of sockets can be used; no folder is made."""
    try:
        path = runtime_dir_of(settings)
        if path.exists() or path.is_symlink():
            prepare_runtime_dir(path)
            return ok(SOCKETS, f"{path} can be used for sockets")
    except SettingsError as error:
        return failed(SOCKETS, str(error), "See --runtime-dir; run this as the worker's user.")
    except OSError as error:
        return failed(SOCKETS, f"{settings.runtime_dir}: {error.strerror}", "Run this as the worker's user.")
    if len(os.fsencode(path / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        return failed(
            SOCKETS, f"{path} is too long for a socket", "Choose a folder of at most 90 characters: --runtime-dir."
        )
    parent = next(parent for parent in path.parents if parent.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        return failed(
            SOCKETS, f"{path} is not there and cannot be made in {parent}", "Choose another folder: --runtime-dir."
        )
    return ok(SOCKETS, f"the agent makes {path} when it starts")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
