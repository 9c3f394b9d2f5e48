"""Consumers as processes, each behind a link of its own, and what can happen to them and to the centre."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.wire.workers import Enrollment, SecretKind, new_secret
from edge_worker.state.state import Identity, StateDir
from support.network.link import Cut, Link
from support.system.site import Site

PROGRAM = Path(__file__).with_name("consumer.py")
SLOTS = 4


@dataclass
class ConsumerProcess:
    """A consumer that can be killed, cut off, and started again with the same identity."""

    state_dir: Path
    ledger: Path
    link: Link
    ca: Path
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the program."""
        with self.state_dir.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAM), str(self.state_dir), str(self.ledger), str(SLOTS)),
                env={"EDGE_WORKER_CA_FILE": str(self.ca), "PATH": os.environ["PATH"]},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        assert self._process.returncode is None, self.state_dir.with_suffix(".log").read_text()[-2000:]
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def consumer_process(site: Site, queue: str, state_dir: Path, ledger: Path) -> AsyncIterator[ConsumerProcess]:
    """A consumer that runs, and is killed at the end."""
    async with Link.to(site.edge.relays[0].workers_url) as link:
        secret = new_secret(SecretKind.WORKER)
        reply = await site.edge.enroll(await site.edge.token(queue=queue), secret)
        enrollment = Enrollment.model_validate(reply.json)
        state = StateDir(state_dir)
        state.prepare()
        state.complete_enrollment(
            Identity(relay_url=f"https://127.0.0.1:{link.port}", secret=secret, enrollment=enrollment)
        )
        made = ConsumerProcess(state_dir, ledger, link, site.edge.ca)
        await made.start()
        try:
            yield made
        finally:
            await made.kill()


@asynccontextmanager
async def consumer_processes(
    site: Site, queue: str, folder: Path, ledger: Path, *, count: int
) -> AsyncIterator[list[ConsumerProcess]]:
    """Several consumers of one queue."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(consumer_process(site, queue, folder / f"consumer-{number}", ledger))
            for number in range(count)
        ]


@dataclass(frozen=True)
class Storm:
    """What happens to the centre and to consumers, in random order."""

    site: Site
    consumers: list[ConsumerProcess]
    chance: random.Random
    tolerance_s: float

    async def round(self) -> None:
        """Each of the strikes once; a consumer is cut off for longer than its jobs tolerate meanwhile."""
        cut = self.chance.choice(self.consumers)
        await cut.link.cut(
            self.chance.choice([Cut.BLACK_HOLE, Cut.REFUSE]),
            lasts_s=self.tolerance_s + self.chance.uniform(1, 3),
            keeps=self.chance.random() < 0.5,
        )
        others = [one for one in self.consumers if one is not cut]
        strikes: list[Callable[[], Awaitable[None]]] = [self._kill_broker, self._restart_relay]
        strikes += [lambda one=one: self._kill(one) for one in others]  # type: ignore[misc]  # mypy can't infer it
        strikes += [lambda one=one: self._cut_shortly(one) for one in others]  # type: ignore[misc]  # nor this
        self.chance.shuffle(strikes)
        for strike in strikes:
            await strike()
            await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        await cut.link.restored()

    async def _kill(self, one: ConsumerProcess) -> None:
        await one.kill()
        await asyncio.sleep(self.chance.uniform(0, 0.5))
        await one.start()

    async def _cut_shortly(self, one: ConsumerProcess) -> None:
        await one.link.cut(self.chance.choice(list(Cut)), lasts_s=self.chance.uniform(0.1, 1))

    async def _kill_broker(self) -> None:
        await self.site.server.stop(kill=True)
        await self.site.server.start()

    async def _restart_relay(self) -> None:
        await self.site.stop_relay()
        await self.site.start_relay()
