"""Users and rules of sudo that exist in a mount namespace only, where other users may also execute the interpreter."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

AGENT, TASK, OTHER, GROUP = "er-agent", "er-etl", "er-other", "er-tasks"

_SET_UP = f"""
set -eu
for folder in "$@"; do
    mkdir -p "$HIDDEN$folder/upper" "$HIDDEN$folder/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$HIDDEN$folder/upper,workdir=$HIDDEN$folder/work" "$folder"
    chmod o+rx "$folder"
done
groupadd --system {GROUP}
useradd --system --no-create-home --groups {GROUP} {TASK}
useradd --system --no-create-home {AGENT}
useradd --system --no-create-home {OTHER}
printf '%s\\n' '{AGENT} ALL=({TASK}) NOPASSWD: ALL' > /etc/sudoers.d/edge-relay-test
chmod 440 /etc/sudoers.d/edge-relay-test
echo ready
exec sleep infinity
"""


def missing() -> str | None:
    """Why there can be no such namespace here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root can become another user"
    needed = ("sudo", "unshare", "nsenter", "setpriv", "useradd")
    return next((f"needs {name}" for name in needed if shutil.which(name) is None), None)


@dataclass(frozen=True)
class OtherUsers:
    """A namespace with the users `AGENT`, which may become `TASK`, `TASK`, which is in `GROUP`, and `OTHER`.

    Attributes:
        inside: What a command begins with to run there, as root.
    """

    inside: tuple[str, ...]

    def as_user(self, name: str, *command: str) -> list[str]:
        """A command for this user."""
        return [*self.inside, "setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", *command]

    def id_of(self, option: str, name: str) -> int:
        """A number that `id` prints."""
        return int(subprocess.run([*self.inside, "id", option, name], check=True, capture_output=True).stdout)

    def interpreter(self, folder: Path) -> Path:
        """A program that is this interpreter, in the namespace."""
        program = folder / "python-inside"
        program.write_text(f'#!/bin/sh\nexec {" ".join(self.inside)} {sys.executable} "$@"\n')
        program.chmod(0o755)
        return program


@contextmanager
def other_users(hidden: Path) -> Iterator[OtherUsers]:
    """Make the namespace, and end it.

    Args:
        hidden: An empty folder for what differs in the namespace.
    """
    closed = [folder for folder in _folders_above_this_interpreter() if not folder.stat().st_mode & 0o001]
    command = ["unshare", "--mount", "sh", "-c", _SET_UP, "sh", "/etc", *map(str, closed)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HIDDEN": str(hidden)})
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield OtherUsers(("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"))
    finally:
        holder.kill()
        holder.communicate()


def _folders_above_this_interpreter() -> list[Path]:
    """Those of the virtual environment and of its base, from the top."""
    places = (Path(sys.prefix), Path(sys.base_prefix).resolve(), Path(__file__).resolve())
    return sorted({folder for place in places for folder in place.parents} - {Path("/")})
