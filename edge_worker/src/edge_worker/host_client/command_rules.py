"""What the owner of the machine allows producers to run."""

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edge_schemas.wire.jobs import CommandWork

ANY = "*"


@dataclass(frozen=True)
class CommandRules:
    """The owner's rules for commands.

    Attributes:
        programs: Names or absolute paths of programs; `*` for any. None is allowed if it is empty.
        variables: Names of environment variables that a producer may set, unless any program is allowed.
        path: Where programs are looked up.
    """

    programs: Sequence[str]
    variables: Collection[str]
    path: str

    @property
    def allows_some(self) -> bool:
        """Whether commands are accepted at all."""
        return bool(self.programs)

    def find(self, program: str) -> str | None:
        """What is executed for a program, by the owner's PATH; None if it is not allowed.

        From a list, the path that the owner means: a link that leads there now may lead elsewhere when it is executed.
        If any program is allowed, the name as it is where nothing is found: the start fails with the reason.
        """
        if ANY in self.programs:
            return self._which(program) or program
        allowed = (self._which(one) for one in self.programs)
        return next((path for path in allowed if path is not None and self._means(program, path)), None)

    def forbidden(self, work: CommandWork) -> str | None:
        """Why the command must not be run here."""
        if not self.programs:
            return "this worker runs no commands: its owner has not allowed them (EDGE_WORKER_COMMANDS)"
        if ANY in self.programs:
            return None
        if self.find(work.argv[0]) is None:
            return f"this worker does not run {work.argv[0]!r}: its owner has not allowed it (EDGE_WORKER_COMMANDS)"
        if work.cwd is not None:
            return "this worker's owner allows some programs only, and then none may choose its folder (cwd)"
        if others := sorted(set(work.env) - set(self.variables)):
            return f"the variable {others[0]} may not be set here: its owner allows some only (EDGE_WORKER_COMMAND_ENV)"
        return None

    def _which(self, program: str) -> str | None:
        return shutil.which(program, path=self.path)

    def _means(self, program: str, path: str) -> bool:
        """Whether a producer means this program of the owner's list."""
        if "/" in program and not program.startswith("/"):
            return False  # it depends on the folder, which the producer may not choose
        found = self._which(program)
        return found is not None and os.path.realpath(found) == os.path.realpath(path) and _same_name(found, path)


NO_COMMANDS = CommandRules((), (), "")


def _same_name(one: str, other: str) -> bool:
    """Programs that act by their name, as busybox does, are one file with many names."""
    return os.path.basename(one) == os.path.basename(other)  # noqa: PTH119 (they are not read)
