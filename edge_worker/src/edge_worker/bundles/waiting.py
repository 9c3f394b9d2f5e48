"""The jobs that wait for one version."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_schemas.wire.jobs import BundleRef

Say = Callable[[str], None]
"""Writes a line into the log of a task."""


@dataclass(eq=False)
class Waiter:
    """A job that waits for its code.

    Attributes:
        say: Writes a line into the task's log.
        done: Gets the folder with the code.
    """

    job: str
    bundle: BundleRef
    say: Say
    done: "asyncio.Future[Path]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Waiters:
    """Those of one version, the first first."""

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []
        self._has_joined = asyncio.Event()
        self._line = ""
        self._pauses = False

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def bundle(self) -> BundleRef | None:
        """As the first one names it; None if none waits."""
        return self._waiters[0].bundle if self._waiters else None

    def join(self, waiter: Waiter) -> None:
        """One more waits; it is told how things stand."""
        self._waiters.append(waiter)
        self._has_joined.set()
        begins = f"Edge worker: fetches version {short(waiter.bundle.digest)} of bundle {waiter.bundle.name!r}"
        waiter.say(self._line or begins)

    def leave(self, waiter: Waiter) -> None:
        """One waits no longer, if it still did."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    async def first(self) -> Waiter:
        """The first that waits. Without one, nothing happens until another joins."""
        while not (waiting := self._waiting()):
            self._has_joined.clear()
            await self._has_joined.wait()
        return waiting[0]

    def say(self, line: str) -> None:
        """Tell each of them."""
        self._line = line
        for waiter in self._waiters:
            waiter.say(line)

    def pause(self, why: str) -> None:
        """The relay does not answer as it should; told once, until it does."""
        if not self._pauses:
            self._pauses = True
            self.say(f"Edge worker: the fetch waits for the relay: {why}")

    def resume(self) -> None:
        """The relay answers."""
        if self._pauses:
            self._pauses = False
            self.say("Edge worker: the relay answers again, and the fetch continues")

    def give(self, tree: Path) -> None:
        """The version is here."""
        for waiter in self._waiting():
            waiter.done.set_result(tree)

    def fail(self, error: Exception) -> None:
        """The version can't be had."""
        for waiter in self._waiting():
            waiter.done.set_exception(error)

    def refuse(self, waiter: Waiter, error: Exception) -> None:
        """One of them can't have it; it may have left meanwhile."""
        if waiter in self._waiting():
            waiter.done.set_exception(error)
        self.leave(waiter)

    def _waiting(self) -> list[Waiter]:
        return [waiter for waiter in self._waiters if not waiter.done.done()]


def short(digest: str) -> str:
    """Enough of a digest for people."""
    return digest[:12]
