"""Records that a relay has seen: a change needs no read, and an outdated record decides nothing. Real JetStream."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typing_extensions import override

from edge_broker.connection.api import ApiAnswer
from edge_broker.connection.broker import Broker
from edge_broker.kept_records import KeptRecords
from edge_broker.permissions import RELAY
from edge_broker.records import RecordStore
from edge_schemas.life.events import Finish, Release, Start
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.nats.server import broker_settings, connected, running_server
from support.relay.jobs import make_job

NOW = datetime(2026, 11, 30, tzinfo=UTC)


class _CountingBroker(Broker):
    """Counts the reads of messages."""

    reads = 0

    @override
    async def api(self, call: str, body: Mapping[str, object] | None = None) -> ApiAnswer:
        self.reads += call.startswith("STREAM.MSG.GET.")
        return await super().api(call, body)


@dataclass
class Pair:
    """A store that keeps what it has seen, and one of another process."""

    broker: _CountingBroker
    store: RecordStore
    other: RecordStore

    async def started(self) -> JobRecord:
        """A job that this store has started, so that it keeps the record."""
        record = new_record(make_job())
        await self.other.create(record)
        await self.store.change(record.id, Start("w", 1, NOW, "g"))
        self.broker.reads = 0
        return record


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        running_server(tmp_path / "nats") as server,
        _CountingBroker(broker_settings(server, RELAY)) as broker,
        connected(server, RELAY) as other,
    ):
        await broker.wait_connected(10)
        yield Pair(broker, RecordStore(broker, kept=KeptRecords()), RecordStore(other))


async def test_a_record_that_was_written_here_is_changed_without_a_read(pair: Pair) -> None:
    """Start and finish of a job at one replica: the finish only swaps."""
    job = (await pair.started()).id
    _, after = await pair.store.change(job, Finish("w", 0, None, NOW))
    assert after.state is JobState.ENDED
    assert pair.broker.reads == 0
    assert await pair.other.get(job) == after


async def test_a_record_that_changed_elsewhere_is_read_before_it_is_swapped(pair: Pair) -> None:
    """The kept record says that the job runs; it has ended: the end that was written first stays."""
    job = (await pair.started()).id
    _, ended = await pair.other.change(job, Finish("w", 0, None, NOW))
    before, after = await pair.store.change(job, Finish("w", 1, "late", NOW))
    assert before is after
    assert after == ended
    assert pair.broker.reads > 0


async def test_an_outdated_record_refuses_nothing(pair: Pair) -> None:
    """The kept record names another holder; the job waits again by now: the start succeeds."""
    job = (await pair.started()).id
    await pair.other.change(job, Finish("w", None, "gone", NOW, release=True))
    _, after = await pair.store.change(job, Start("w2", 1, NOW, "g2"))
    assert after.holder is not None
    assert after.holder.worker == "w2"


async def test_an_outdated_record_confirms_nothing(pair: Pair) -> None:
    """A repeated start that the kept record would confirm: another worker holds the job by now, and it is refused."""
    job = (await pair.started()).id
    await pair.other.change(job, Finish("w", None, "gone", NOW, release=True))
    await pair.other.change(job, Start("w2", 1, NOW, "g2"))
    with pytest.raises(EdgeError) as refused:
        await pair.store.change(job, Start("w", 1, NOW, "g"))
    assert refused.value.code is ErrorCode.NOT_HOLDER


async def test_a_change_that_is_refused_before_its_swap_is_decided_by_the_record_that_was_read(pair: Pair) -> None:
    """A caller's own check runs again on the record that counts, and what it raises then is the answer."""
    job = (await pair.started()).id
    seen: list[JobState] = []

    async def check(before: JobRecord, _: JobRecord) -> None:
        seen.append(before.state)
        raise EdgeError(ErrorCode.TAKEOVER_PENDING)

    with pytest.raises(EdgeError):
        await pair.store.change(job, Finish("w", 0, None, NOW), first=check)
    assert seen == [JobState.RUNNING, JobState.RUNNING]
    assert pair.broker.reads == 1


async def test_of_many_changes_at_once_one_succeeds(pair: Pair) -> None:
    """All know the same record: one swap succeeds, the others read again."""
    job = (await pair.started()).id
    events = [Finish("w", code, None, NOW) for code in range(10)]
    changes = await asyncio.gather(*(pair.store.change(job, event) for event in events))
    assert sum(before is not after for before, after in changes) == 1
    assert len({after.outcome.exit_code for _, after in changes if after.outcome is not None}) == 1


async def test_a_release_is_kept_like_any_other_change(pair: Pair) -> None:
    """The kept record follows each change of its own store: a released grant can't start the job."""
    record = new_record(make_job())
    await pair.other.create(record)
    await pair.store.change(record.id, Release("w", "full", counted=False, at=NOW, grant="g"))
    with pytest.raises(EdgeError) as refused:
        await pair.store.change(record.id, Start("w", 1, NOW, "g"))
    assert refused.value.code is ErrorCode.RECEIPT_EXPIRED


def test_the_memory_of_kept_records_is_bounded() -> None:
    """What was seen longest ago goes first; ended and removed records, and older revisions, are not kept."""
    kept = KeptRecords(max_bytes=30)
    for number, job in enumerate("abcd", start=1):
        kept.keep(job, b"x" * 10, number)
    assert len(kept) == 3
    assert kept.take("a") is None
    kept.keep("d", b"old", 3)
    assert kept.take("d") == (b"x" * 10, 4)
    kept.keep("c", b'{"state":"ended"}', 5)
    kept.keep("b", None, 6)
    assert len(kept) == 0
    kept.keep("a", b"x" * 31, 7)
    assert len(kept) == 0
