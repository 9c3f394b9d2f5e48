"""The folder, with a short path, of the local gateway's Unix socket."""

import hashlib
import os
import stat
from pathlib import Path

from edge_worker.environment import runtime_base
from edge_worker.settings import Settings, SettingsError

SOCKET_NAME = "gw.sock"
MAX_SOCKET_PATH_BYTES = 107
"""The limit of a Unix socket's address on Linux, without the final zero byte."""


def runtime_dir_of(settings: Settings) -> Path:
    """The path of the folder. It is the same at every start, so that tasks that outlive the agent find the next one."""
    if settings.runtime_dir is not None:
        return settings.runtime_dir
    mark = hashlib.sha256(str(settings.state_dir.resolve()).encode()).hexdigest()[:10]
    base = runtime_base()
    return base / f"edge-worker-{mark}" if base else Path("/tmp") / f"edge-worker-{os.geteuid()}-{mark}"  # noqa: S108


def prepare_runtime_dir(path: Path) -> Path:
    """Makes the folder, or checks that an existing one is private, and returns the path of the socket in it.

    Raises:
        SettingsError: The path is too long, or the folder belongs to another user or is open to others.
    """
    socket = path / SOCKET_NAME
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        msg = f"runtime_dir {path} is too long for a Unix socket; choose one with at most 90 characters"
        raise SettingsError(msg)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        msg = f"runtime_dir {path} cannot be used: {error}"
        raise SettingsError(msg) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        msg = f"runtime_dir {path} must be a folder of this user with mode 0700; remove it or choose another"
        raise SettingsError(msg)
    return socket
