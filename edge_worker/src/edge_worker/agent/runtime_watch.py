"""Accepts jobs only while the Airflow runtime is ready, and knows its version."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from edge_schemas.life.versions import RUNTIME_NOT_READY
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
        airflow: The runtime's version of Airflow; None until it is known.
    """

    runtime: VersionSource
    table: JobRegistry
    rule: RuntimeCompatibility
    airflow: str | None = field(default=None, init=False)

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            version = await self.runtime.versions()
            if version is None:
                self.table.close_intake("runtime", RUNTIME_NOT_READY)
            else:
                self.airflow = version
                self.rule.found(version)
                self.table.open_intake("runtime")
            await asyncio.sleep(CHECK_EVERY_S)
