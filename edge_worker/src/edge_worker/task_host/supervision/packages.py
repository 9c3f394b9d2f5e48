"""Adds the packages of a virtual environment to this process, which was forked for one job, and to all that it starts.

They come behind the runtime's own, which are imported already. The environment was made with the runtime's versions as
constraints, so it has no other version of anything in the runtime.
"""

import os
import pkgutil
import site
import sys
from pathlib import Path
from typing import NoReturn

_REPLACE_PROCESS = os.execvp


def add(environment: Path) -> None:
    """Add the packages, and let programs of the environment be found first.

    Raises:
        FileNotFoundError: The environment has no packages for this interpreter.
    """
    folder = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    if not folder.is_dir():
        raise FileNotFoundError(f"the environment {environment} has no packages for {sys.executable}")
    site.addsitedir(str(folder))
    _add_for_another_user(folder)
    os.environ["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # It was imported before this folder was there; providers of Airflow are packages in it.
    if (airflow := sys.modules.get("airflow")) is not None:
        airflow.__path__ = pkgutil.extend_path(airflow.__path__, "airflow")


def _add_for_another_user(folder: Path) -> None:
    """Has the interpreter of a task with `run_as_user` add them too.

    The SDK replaces the task's process by `sudo … python -c CODE`, and sudo removes PYTHONPATH.
    """

    def execvp(file: str, args: list[str]) -> NoReturn:
        if file == "sudo" and len(args) > 1 and args[-2] == "-c":
            args = [*args[:-1], f"import site; site.addsitedir({str(folder)!r}); {args[-1]}"]
        _REPLACE_PROCESS(file, args)

    vars(os)["execvp"] = execvp
