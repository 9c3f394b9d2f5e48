"""What proves that polls can be stored: a poll that was stored just now, otherwise a write of its own."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.lifecycle import Lifecycle
from edge_relay.relay_beats import PROOF_EVERY_S, RelayBeats


class Workers:
    """Where polls are stored; counts the writes that only prove."""

    def __init__(self) -> None:
        self.written_at = float("-inf")
        self.probes = 0
        self.fails = False

    async def probe(self) -> None:
        self.probes += 1
        if self.fails:
            raise BrokerUnavailable("no leader")


class Scene:
    """Beats of a relay, without its loop."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.proofs: list[float] = []
        self.connect: Callable[[], None] = lambda: None
        broker: Any = SimpleNamespace(on_connection=self._on_connection)
        workers: Any = self.workers
        self.beats = RelayBeats(broker, workers, Lifecycle(), "r", self.proofs.append)

    def _on_connection(self, listener: Callable[[], None]) -> None:
        self.connect = listener


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_poll_that_was_stored_just_now_is_a_proof(scene: Scene) -> None:
    scene.workers.written_at = written_at = time.monotonic() - PROOF_EVERY_S / 2
    assert await scene.beats._prove()
    assert (scene.workers.probes, scene.proofs) == (0, [written_at])


async def test_an_older_poll_is_none(scene: Scene) -> None:
    began = time.monotonic()
    scene.workers.written_at = began - PROOF_EVERY_S
    assert await scene.beats._prove()
    assert scene.workers.probes == 1
    assert [proof >= began for proof in scene.proofs] == [True]


async def test_nor_is_one_of_the_connection_before(scene: Scene) -> None:
    scene.workers.written_at = time.monotonic()
    scene.connect()
    scene.workers.fails = True
    assert not await scene.beats._prove()
    assert (scene.workers.probes, scene.proofs) == (1, [])
