"""Inspects Python interpreters: the one that a runtime is made of, and that of a finished runtime."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge_worker.environment import installer_environment
from edge_worker.settings import SettingsError

_OLDEST, _TOO_NEW = (3, 11), (3, 14)
_ASK_PYTHON = (
    "import json, os, platform, sys; "
    "print(json.dumps([list(sys.version_info[:2]), platform.python_version(), "
    "os.path.realpath(getattr(sys, '_base_executable', sys.executable))]))"
)
_ASK_AIRFLOW = "from importlib.metadata import version; print(version('apache-airflow-core'))"


@dataclass(frozen=True)
class Python:
    """The interpreter that a runtime is made of.

    Attributes:
        base: The file of its base interpreter, if it belongs to a virtual environment.
    """

    path: Path
    version: str
    base: str


def inspect_python(path: Path) -> Python:
    """The interpreter, if a runtime can be made of it.

    Raises:
        SettingsError: It does not start, or has an unsupported version.
    """
    try:
        output = subprocess.run(
            [str(path), "-I", "-c", _ASK_PYTHON],
            capture_output=True,
            check=True,
            env=installer_environment(),
            timeout=60,
        )
        number, version, base = json.loads(output.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SettingsError(f"--python: {path} is not a Python that starts: {error}") from None
    if not _OLDEST <= tuple(number) < _TOO_NEW:
        raise SettingsError(f"--python: {path} is Python {version}; a runtime needs 3.11, 3.12 or 3.13")
    return Python(path, version, base)


def has_airflow(runtime: Path, airflow: str) -> bool:
    """Whether a runtime's interpreter starts and has this version of Airflow."""
    try:
        output = subprocess.run(
            [str(runtime / "bin" / "python"), "-I", "-c", _ASK_AIRFLOW],
            capture_output=True,
            check=True,
            env=installer_environment(),
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return output.stdout.decode().strip() == airflow
