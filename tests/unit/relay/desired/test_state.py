"""What a replica makes of the entries of `edge_desired`, without a broker."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_relay.desired.entries import OWN_FOR_S, Entries
from edge_relay.desired.state import DesiredState
from edge_relay.desired.worker_state import worker_state
from edge_schemas.admin.desired import AvailabilityOrder, DesiredEntry, DesiredQueue, DesiredSite, DesiredWorker
from edge_schemas.wire.workers import Availability, WorkerAccess, WorkerSettings, WorkerState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCESS = WorkerAccess(
    worker="w",
    secret_hash="0" * 64,
    site="s",
    settings=WorkerSettings(version=1, queues=("a", "b")),
    enrolled_at=NOW,
)


class Clock:
    """The wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def state(clock: Clock) -> DesiredState:
    return DesiredState(Broker(BrokerSettings(("nats://127.0.0.1:1",), "relay", "x")), now=clock)


def stored(entry: DesiredWorker | DesiredSite | DesiredQueue) -> bytes:
    return entry.model_dump_json(exclude_none=True).encode()


def order(availability: Availability, until: datetime | None = None, by: str = "ann") -> AvailabilityOrder:
    return AvailabilityOrder(availability=availability, reason="moved", by=by, since=NOW, until=until)


def test_the_stricter_order_of_worker_and_site_counts() -> None:
    desired = state(Clock())
    desired.apply("worker.w", stored(DesiredWorker(version=1, order=order(Availability.PAUSED), slots=3)))
    settings = desired.settings(ACCESS)
    assert (settings.availability, settings.slots, settings.queues) == (Availability.PAUSED, 3, ("a", "b"))
    desired.apply("site.s", stored(DesiredSite(version=4, order=order(Availability.STOPPED, by="bob"))))
    settings = desired.settings(ACCESS)
    assert (settings.availability, settings.availability_reason) == (Availability.STOPPED, "moved (by bob)")
    assert settings.version == 1 + 2 * 1 + 2 * 4
    assert desired.active_queues(None, settings) == ()


def test_a_paused_queue_is_left_out() -> None:
    desired = state(Clock())
    desired.apply("queue.a", stored(DesiredQueue(version=1, order=order(Availability.PAUSED))))
    assert desired.active_queues(None, desired.settings(ACCESS)) == ("b",)
    assert desired.active_queues("red", desired.settings(ACCESS)) == ("red__a", "red__b")


async def test_the_end_of_an_order_is_reported_by_itself() -> None:
    clock, ended = Clock(), asyncio.Event()
    desired = state(clock)
    until = NOW + timedelta(seconds=60)
    desired.apply("site.s", stored(DesiredSite(version=1, order=order(Availability.PAUSED, until))))
    before = desired.settings(ACCESS)
    keys: list[str] = []

    def changed(key: str) -> None:
        keys.append(key)
        ended.set()

    desired.on_change(changed)
    clock.now = until
    watching = asyncio.create_task(desired._watch_ends())  # `run()` would also connect
    async with asyncio.timeout(5):
        await ended.wait()
    watching.cancel()
    after = desired.settings(ACCESS)
    assert (keys, after.availability, after.version) == (["site.s"], Availability.ACTIVE, before.version + 1)


def test_the_watch_decides_but_what_was_written_here_counts_at_once() -> None:
    """An older value that is on its way does not undo it; one that stays older does: the bucket was restored."""
    found = Entries()
    found.watched("worker.w", DesiredWorker(version=1))
    found.written("worker.w", DesiredWorker(version=3, slots=3), now=0)
    found.watched("worker.w", DesiredWorker(version=2, slots=2))
    assert found.get("worker.w") == DesiredWorker(version=3, slots=3)
    assert found.forget_own(OWN_FOR_S - 1) == {}
    assert found.forget_own(OWN_FOR_S) == {"worker.w": DesiredWorker(version=3, slots=3)}
    assert found.get("worker.w") == DesiredWorker(version=2, slots=2)
    found.written("worker.w", DesiredWorker(version=3), now=0)
    found.watched("worker.w", DesiredWorker(version=4))
    found.written("worker.w", DesiredWorker(version=3), now=0)
    assert (cast("DesiredEntry", found.get("worker.w")).version, found.has_own) == (4, False)
    found.watched("worker.w", None)
    assert found.get("worker.w") is None


def test_an_unreadable_entry_changes_nothing_else() -> None:
    desired = state(Clock())
    desired.apply("site.s", stored(DesiredSite(version=1, order=order(Availability.PAUSED))))
    for key in ("worker.w", "nonsense", ""):
        desired.apply(key, b"{")
    assert desired.settings(ACCESS).availability is Availability.PAUSED


def test_what_an_operator_must_act_upon_comes_first() -> None:
    facts = {
        "is_revoked": False,
        "was_seen": True,
        "in_conflict": False,
        "is_offline": False,
        "is_healthy": True,
        "is_draining": False,
    }

    def found(availability: Availability = Availability.ACTIVE, **more: bool) -> WorkerState:
        return worker_state(**{**facts, **more}, availability=availability)

    paused = Availability.PAUSED
    assert found() is WorkerState.ONLINE
    assert found(paused) is WorkerState.PAUSED
    assert found(Availability.DRAINING) is WorkerState.DRAINING
    assert found(Availability.STOPPED) is WorkerState.DRAINING
    assert found(is_draining=True) is WorkerState.DRAINING
    assert found(paused, is_healthy=False) is WorkerState.UNHEALTHY
    assert found(is_draining=True, is_healthy=False) is WorkerState.DRAINING
    assert found(paused, is_offline=True, is_healthy=False) is WorkerState.OFFLINE
    assert found(in_conflict=True, is_offline=True) is WorkerState.CONFLICT
    assert found(was_seen=False) is WorkerState.NEVER_SEEN
    assert found(is_revoked=True, was_seen=False) is WorkerState.REVOKED
