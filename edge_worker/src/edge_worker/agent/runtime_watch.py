"""Accepts jobs only while the Airflow runtime is ready, and knows its version."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from edge_schemas.life.versions import RUNTIME_NOT_READY
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.polls import PollKind
from edge_worker.jobs.compatibility import RuntimeCompatibility
from edge_worker.jobs.registry import JobRegistry

CHECK_EVERY_S = 0.5


class VersionSource(Protocol):
    """The part of `TaskHost` that is used here."""

    async def versions(self) -> str | None:
        """Airflow's version; None while the runtime is not ready."""


@dataclass
class RuntimeWatch:
    """Opens and closes the intake as the runtime comes and goes.

    Attributes:
        other_kinds: What the worker accepts besides tasks. If there is something, a runtime that is not ready closes no
            intake: the worker then accepts no tasks.
        airflow: The runtime's version of Airflow; None until it is known.
    """

    runtime: VersionSource
    table: JobRegistry
    rule: RuntimeCompatibility
    other_kinds: tuple[PollKind, ...] = ()
    _is_ready: bool = field(default=False, init=False)
    airflow: str | None = field(default=None, init=False)

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            version = await self.runtime.versions()
            self._note(is_ready=version is not None)
            if version is not None:
                self.airflow = version
                self.rule.found(version)
            await asyncio.sleep(CHECK_EVERY_S)

    def kinds(self) -> tuple[PollKind, ...]:
        """The kinds of jobs that the worker accepts now; a poll has to name one."""
        return (JobKind.TASK, *self.other_kinds) if self._is_ready or not self.other_kinds else self.other_kinds

    def _note(self, *, is_ready: bool) -> None:
        if self.other_kinds:
            if is_ready is not self._is_ready:
                self._is_ready = is_ready
                self.table.changed()
        elif is_ready:
            self.table.open_intake("runtime")
        else:
            self.table.close_intake("runtime", RUNTIME_NOT_READY)
