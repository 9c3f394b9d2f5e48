"""Takes parts of the system away at random, aimed at what was hit least, until it is told to stop."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from faults.chaos.parts import Part
from faults.chaos.stages import Observer, Stage

LOOK_EVERY_S = 0.002


@dataclass
class Hits:
    """What was killed while jobs stood where."""

    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[Stage] = field(default_factory=Counter)
    pairs: Counter[tuple[str, Stage]] = field(default_factory=Counter)

    def note(self, part: str, stages: set[Stage]) -> None:
        """A kill, and where at least one job stood at that moment."""
        self.kills[part] += 1
        for stage in stages:
            self.stages[stage] += 1
            self.pairs[part, stage] += 1

    @property
    def rarest(self) -> Stage:
        """The stage that was hit least often."""
        return min(Stage, key=lambda stage: self.stages[stage])

    def enough(self, times: int) -> bool:
        """Whether each stage was hit so often."""
        return all(self.stages[stage] >= times for stage in Stage)

    def table(self) -> str:
        """For people: a line for each stage, a column for each part."""
        names = sorted(self.kills)
        head = f"{'':<36}{'all':>6}" + "".join(f"{name:>12}" for name in names)
        rows = [
            f"{stage:<36}{self.stages[stage]:>6}" + "".join(f"{self.pairs[name, stage]:>12}" for name in names)
            for stage in Stage
        ]
        kills = f"{'kills':<36}{self.kills.total():>6}" + "".join(f"{self.kills[name]:>12}" for name in names)
        return "\n".join([head, *rows, kills])


class Storm:
    """Kills one part after another, most while others are away. A part is killed again only once it was up again.

    Args:
        parts: That may be taken away.
        observer: Tells where jobs stand.
        chance: Seeded by whoever wants to repeat it.
        every_s: Least and longest time between two kills.
        away_s: Least and longest time after which a part is started again.
        rounds: How often parts that are back at once are killed for each time that one of the others is.
        patience_s: How long the next kill may wait for a job to end; a slow machine would never come to an end.
        aim_s: How long to wait for a job in the stage that was hit least.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        observer: Observer,
        chance: random.Random,
        *,
        every_s: tuple[float, float],
        away_s: tuple[float, float],
        aim_s: float,
        patience_s: float,
        rounds: int = 1,
    ) -> None:
        self._parts, self._observer, self._chance = parts, observer, chance
        self._every_s, self._away_s, self._aim_s = every_s, away_s, aim_s
        self._rounds, self._patience_s = rounds, patience_s
        self._bag: list[Part] = []
        self._coming_back: dict[str, asyncio.Task[None]] = {}
        self.hits = Hits()

    async def rage(self, over: Callable[[Hits], bool]) -> None:
        """Until it is over; returns once every part is up again."""
        try:
            while not over(self.hits):
                await self._calm()
                await self._strike(self._draw())
        finally:
            await asyncio.gather(*self._coming_back.values())

    async def _calm(self) -> None:
        ended = len(self._observer.ended)
        await asyncio.sleep(self._chance.uniform(*self._every_s))
        await _while(lambda: len(self._observer.ended) == ended, self._patience_s)

    async def _strike(self, part: Part) -> None:
        if (back := self._coming_back.get(part.name)) is not None:
            await back
        await self._aim()
        stages = self._observer.stages()
        if await part.kill():
            self.hits.note(part.name, stages)
            self._coming_back[part.name] = asyncio.create_task(self._revive(part), name=f"revive {part.name}")

    async def _aim(self) -> None:
        """Wait for a job to stand where it was hit least, for a while."""
        wanted = self.hits.rarest
        await _while(lambda: wanted not in self._observer.stages(), self._aim_s)

    async def _revive(self, part: Part) -> None:
        await asyncio.sleep(self._chance.uniform(*self._away_s))
        await part.revive()

    def _draw(self) -> Part:
        """Each part as often as it is to be, in random order, before the next round."""
        if not self._bag:
            self._bag = [part for part in self._parts for _ in range(self._rounds if part.is_quick else 1)]
            self._chance.shuffle(self._bag)
        return self._bag.pop()


async def _while(so: Callable[[], bool], longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while so() and time.monotonic() < deadline:  # noqa: ASYNC110  # seen from outside only
        await asyncio.sleep(LOOK_EVERY_S)
