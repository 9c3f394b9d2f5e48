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
        """The path of a program, by the owner's PATH; None if it cannot be found, or cannot be executed."""
        return shutil.which(program, path=self.path)

    def forbidden(self, work: CommandWork) -> str | None:
        """Why the command must not be run here."""
        if not self.programs:
            return "this worker runs no commands: its owner has not allowed them (EDGE_WORKER_COMMANDS)"
        if ANY in self.programs:
            return None
        found = self.find(work.argv[0])
        if found is None or not any(self._is(found, allowed) for allowed in self.programs):
            return f"this worker does not run {work.argv[0]!r}: its owner has not allowed it (EDGE_WORKER_COMMANDS)"
        if work.cwd is not None:
            return "this worker's owner allows some programs only, and then none may choose its folder (cwd)"
        if others := sorted(set(work.env) - set(self.variables)):
            return f"the variable {others[0]} may not be set here: its owner allows some only (EDGE_WORKER_COMMAND_ENV)"
        return None

    def _is(self, found: str, allowed: str) -> bool:
        named = self.find(allowed)
        return named is not None and os.path.realpath(found) == os.path.realpath(named) and _same_name(found, named)


NO_COMMANDS = CommandRules((), (), "")


def _same_name(one: str, other: str) -> bool:
    """Programs that act by their name, as busybox does, are one file with many names."""
    return os.path.basename(one) == os.path.basename(other)  # noqa: PTH119 (they are not read)
