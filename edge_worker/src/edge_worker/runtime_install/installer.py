"""Runs venv and pip: with an environment of their own, without secrets in arguments, never longer than this process."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_worker.environment import installer_environment, proxy_environment
from edge_worker.relay.proxy import proxy_variables
from edge_worker.relay.tls import write_authorities
from edge_worker.settings import Settings

_PR_SET_PDEATHSIG = 1
_LISTED = re.compile(r"^\S+\s+(Found link|Skipping link|Link requires)")


class Failed(Exception):
    """A program failed; its output is in the log."""


@dataclass(frozen=True)
class Installer:
    """How programs are started for one installation.

    Attributes:
        environment: The complete environment of each program; contains passwords.
        log: Receives the output of all programs; mode 0600.
    """

    environment: Mapping[str, str] = field(repr=False)
    log: Path

    @classmethod
    def prepare(cls, settings: Settings, draft: Path, log: Path, *, index_url: str | None) -> "Installer":
        """An installer for a runtime in `draft`. Its temporary files are in `draft` and are removed with it.

        Raises:
            SettingsError: A proxy or a file in the settings can't be used.
        """
        temporary = draft / "tmp"
        temporary.mkdir(mode=0o700)
        environment = {
            # Enough for a slow mirror; an unreachable one should be reported within a minute.
            "PIP_RETRIES": "2",
            "PIP_DEFAULT_TIMEOUT": "20",
            **installer_environment(),
            **proxy_variables(settings, proxy_environment()),
            # Packages are unpacked on the disk that was checked, and nothing is left of them if this process is killed.
            "TMPDIR": str(temporary),
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
        }
        if index_url is not None:
            environment["PIP_INDEX_URL"] = index_url
        if "PIP_CERT" not in environment and (bundle := write_authorities(settings, temporary / "ca.pem")) is not None:
            environment["PIP_CERT"] = str(bundle)
        log.unlink(missing_ok=True)
        log.touch(mode=0o600)
        return cls(environment, log)

    def run(self, command: Sequence[str | Path], *, without: Sequence[str] = ()) -> str:
        """Runs a program to its end and returns its output.

        Args:
            command: Must contain no secret: every user of the machine can read arguments.
            without: Variables that the program does not get.

        Raises:
            Failed: The program ended with a status other than 0.
            OSError: The program can't be started.
        """
        environment = {name: value for name, value in self.environment.items() if name not in without}
        with self.log.open("ab") as log:
            program = subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - there are no threads
            )
            try:
                printed, _ = program.communicate()
            except BaseException:
                program.kill()
                program.wait()
                raise
            log.write(printed)
        if program.returncode != 0:
            raise Failed(f"{Path(command[0]).name} ended with status {program.returncode}")
        return printed.decode(errors="replace")

    def keep_log(self) -> str:
        """The useful part of the log, which stays on disk; pip also lists every file of every release in the index."""
        lines = self.log.read_text(errors="replace").splitlines()
        text = "\n".join(line for line in lines if not _LISTED.search(line)) + "\n"
        self.log.write_text(text)
        return text


def _die_with_parent() -> None:
    """In the child: if the installation is killed, this program ends, too (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_bytes(path: Path) -> int:
    """The disk space for this user where a folder is, or will be."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
