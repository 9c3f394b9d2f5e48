"""Lets the users of tasks with `run_as_user` reach the DAG code and the packages in a state folder."""

import grp
import os
from pathlib import Path

from edge_worker.settings import SettingsError

_ENTER = 0o2710
"""The group may enter and list nothing; new folders inherit the group."""


def let_in(group: str, *, state: Path, bundles: Path, environments: Path) -> None:
    """Let the members of a Unix group enter the folders on the way to code and packages.

    Raises:
        SettingsError: There is no such group, or this user may not give folders to it.
        OSError: A folder can't be changed.
    """
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        msg = f"task_group {group!r}: there is no such group on this machine; make it: groupadd --system {group}"
        raise SettingsError(msg) from None
    inner = (bundles, *bundles.glob("*"), *bundles.glob("versions/*"), environments, *environments.glob("*"))
    for folder in (state, *(path for path in inner if path.is_dir() and not path.is_symlink())):
        try:
            os.chown(folder, -1, number)
        except PermissionError:
            msg = f"task_group {group!r}: the worker's user is not in it: usermod --append --groups {group} USER"
            raise SettingsError(msg) from None
        folder.chmod(_ENTER)
