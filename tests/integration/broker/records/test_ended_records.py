"""Ended records leave the bucket that others watch. Whenever a process dies, the end stays, and no job starts again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_broker.bucket import Bucket, Stored
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, RELAY
from edge_broker.record_mover import RecordMover
from edge_broker.records import DispatchSeen, RecordStore
from edge_broker.subjects import ENDED_BUCKET, RECORDS_BUCKET, kv_stream, kv_subject
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Event, Expire, Finish, GiveUp, Redrive, Release, Start, Withdraw
from edge_schemas.life.model import JobRecord, JobState, Verdict, new_record
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from support.nats.server import connected, eventually, running_server
from support.relay.jobs import make_job

NOW = datetime.now(UTC)
LATE: list[tuple[Event, ErrorCode | None]] = [
    (Start("w", 1, NOW, "g"), ErrorCode.JOB_ENDED),
    (Start("other", 1, NOW), ErrorCode.JOB_ENDED),
    (Finish("w", 0, None, NOW, grant="g"), None),
    (Finish("w", 0, None, NOW, release=True, grant="g"), None),
    (Finish("other", 0, None, NOW), ErrorCode.JOB_ENDED),
    (Release("w", "late", counted=True, at=NOW, grant="g"), ErrorCode.JOB_ENDED),
    (Redrive("fixed", NOW), ErrorCode.JOB_ENDED),
    (Withdraw("late", NOW), None),
    (Expire("late", NOW), None),
    (GiveUp("late", NOW), None),
]
"""What may still come after the end, with its refusal; a repeat is none."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def keeper(server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(server, KEEPER) as broker:
        yield broker


async def ended(records: RecordStore, job: Job | None = None) -> JobRecord:
    """A job that ran and has failed."""
    record = new_record(job or make_job())
    await records.create(record)
    await records.change(record.id, Start("w", 1, NOW, "g"))
    return (await records.change(record.id, Finish("w", 1, "no power", NOW)))[1]


async def where(broker: Broker, job: str) -> list[str]:
    """The buckets that hold a record of the job."""
    buckets = [Bucket(broker, name) for name in (RECORDS_BUCKET, ENDED_BUCKET)]
    return [bucket.name for bucket in buckets if (await bucket.get(job)).value is not None]


async def forget_marks(server: NatsServer) -> None:
    """As when their life is over."""
    async with connected(server, ADMIN) as admin:
        await admin.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}")


async def refusal(store: RecordStore, job: str, event: Event) -> ErrorCode | None:
    """Why the event is refused; None if it is accepted and changes nothing."""
    try:
        before, after = await store.change(job, event)
    except EdgeError as error:
        return error.code
    assert after is before
    return None


@pytest.mark.parametrize("marked", [True, False], ids=["mark", "no mark"])
async def test_after_the_move_everything_is_answered_as_before(
    server: NatsServer, keeper: Broker, *, marked: bool
) -> None:
    """Whoever comes late meets the end: by relay, executor and keeper."""
    records = RecordStore(keeper)
    record = await ended(records)
    await records.move_ended(record.id)
    if not marked:
        await forget_marks(server)
    assert await where(keeper, record.id) == [ENDED_BUCKET]
    async with connected(server, RELAY) as relay, connected(server, EXECUTOR) as executor:
        for broker in (keeper, relay, executor):
            store = RecordStore(broker)
            for event, code in LATE:
                assert await refusal(store, record.id, event) is code, event
            assert await store.get(record.id) == record
            with pytest.raises(DispatchSeen):
                await store.create(record.model_copy(update={"state": JobState.WAITING, "outcome": None}))
    assert await where(keeper, record.id) == [ENDED_BUCKET]


async def test_only_what_has_ended_is_moved(keeper: Broker) -> None:
    records, job = RecordStore(keeper), make_job()
    await records.move_ended(job.id)
    await records.create(new_record(job))
    await records.move_ended(job.id)
    await records.change(job.id, Start("w", 1, NOW))
    await records.move_ended(job.id)
    assert await where(keeper, job.id) == [RECORDS_BUCKET]


@pytest.mark.parametrize("step", ["put", "delete"])
@pytest.mark.parametrize("arrived", [True, False], ids=["carried out", "not sent"])
async def test_a_mover_that_dies_at_any_step_changes_nothing_for_readers(
    keeper: Broker, monkeypatch: pytest.MonkeyPatch, step: str, *, arrived: bool
) -> None:
    """Its last request may have been carried out or not; the next mover ends the work."""
    records = RecordStore(keeper)
    record = await ended(records)
    carry_out = getattr(Bucket, step)

    async def die(*args: Any, **options: Any) -> None:
        if arrived:
            await carry_out(*args, **options)
        raise BrokerUnavailable("the process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, step, die)
        with pytest.raises(BrokerUnavailable):
            await records.move_ended(record.id)
    assert await records.get(record.id) == record
    assert await refusal(records, record.id, Start("w", 1, NOW, "g")) is ErrorCode.JOB_ENDED
    await records.move_ended(record.id)
    assert await records.get(record.id) == record
    assert await where(keeper, record.id) == [ENDED_BUCKET]


async def test_movers_and_late_events_at_once_leave_one_end(server: NatsServer, keeper: Broker) -> None:
    """Whoever is first decides, and all read the same end from then on."""
    async with connected(server, KEEPER) as other, connected(server, RELAY) as relay:
        for _ in range(20):
            records = RecordStore(keeper)
            record = new_record(make_job())
            await records.create(record)
            await records.change(record.id, Start("w", 1, NOW, "g"))

            async def end(store: RecordStore, event: Event, job: str = record.id) -> JobRecord | None:
                with suppress(EdgeError):
                    await store.change(job, event)
                await store.move_ended(job)
                return await store.get(job)

            async def ask(job: str = record.id) -> JobRecord | None:
                with suppress(EdgeError):
                    await RecordStore(relay).change(job, Start("w", 1, NOW, "g"))
                return await RecordStore(relay).get(job)

            found = await asyncio.gather(
                end(records, Finish("w", 1, "no power", NOW)),
                end(RecordStore(other), Withdraw("cleared", NOW)),
                end(records, Finish("w", 0, None, NOW)),
                ask(),
                ask(),
            )
            last = await records.get(record.id)
            assert last is not None
            assert last.outcome is not None
            assert all(one is not None and (one.outcome is None or one == last) for one in found)
            assert await where(keeper, record.id) == [ENDED_BUCKET]


async def test_a_slow_create_does_not_bring_an_ended_job_back(
    server: NatsServer, keeper: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler repeats a create whose answer was lost. Between read and write, the job runs, ends and moves."""
    records, record = RecordStore(keeper), new_record(make_job())
    await records.create(record)
    read = Bucket.get

    async def slow(bucket: Bucket, key: str) -> Stored:
        found = await read(bucket, key)
        if bucket.name == ENDED_BUCKET:
            monkeypatch.undo()
            await records.change(record.id, Start("w", 1, NOW, "g"))
            await records.change(record.id, Finish("w", 1, "no power", NOW))
            await records.move_ended(record.id)
        return found

    async with connected(server, EXECUTOR) as executor:
        monkeypatch.setattr(Bucket, "get", slow)
        with pytest.raises(DispatchSeen):
            await RecordStore(executor).create(record)
    last = await records.get(record.id)
    assert last is not None
    assert last.outcome is not None
    assert last.outcome.verdict is Verdict.FAILED


async def test_an_executor_writes_no_ended_records(server: NatsServer, keeper: Broker) -> None:
    records = RecordStore(keeper)
    record = await ended(records)
    await records.move_ended(record.id)
    async with connected(server, EXECUTOR) as broker:
        with pytest.raises(BrokerUnavailable, match="right"):
            await broker.request(kv_subject(ENDED_BUCKET, record.id), b"{}", timeout_s=0.5)
    assert await records.get(record.id) == record


async def test_a_new_watch_is_shown_what_is_unfinished_however_much_has_ended(
    server: NatsServer, keeper: Broker
) -> None:
    """The mover works from the watched bucket alone: also for records that it did not see end."""
    records = RecordStore(keeper)
    history = [(await ended(records)).id for _ in range(50)]
    unfinished = [new_record(make_job()) for _ in range(3)]
    for record in unfinished:
        await records.create(record)
    mover = RecordMover(records, after_s=0)

    def follow(job: str, value: bytes | None) -> None:
        has_ended = value is not None and JobRecord.model_validate_json(value).state is JobState.ENDED
        (mover.add if has_ended else mover.discard)(job)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(WatchedBucket(keeper, RECORDS_BUCKET, follow).run()),
            group.create_task(mover.run()),
        ]
        await eventually(lambda: len(mover) == len(history))
        await eventually(lambda: len(mover) == 0)
        for task in tasks:
            task.cancel()
    await forget_marks_only(server, history)
    shown: dict[str, bytes | None] = {}
    watched = WatchedBucket(keeper, RECORDS_BUCKET, shown.__setitem__)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await watched.complete.wait()
        following.cancel()
    assert shown.keys() == {record.id for record in unfinished}
    assert [await where(keeper, job) for job in history] == [[ENDED_BUCKET]] * len(history)


async def forget_marks_only(server: NatsServer, jobs: list[str]) -> None:
    """As when the life of these marks is over."""
    async with connected(server, ADMIN) as admin:
        for job in jobs:
            await admin.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}", {"filter": kv_subject(RECORDS_BUCKET, job)})


async def test_one_record_that_cannot_be_moved_keeps_no_other(keeper: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark of another version, a record that grew too large: it waits, and is tried again later."""
    records = RecordStore(keeper)
    jobs = [(await ended(records)).id for _ in range(40)]
    now = [0.0]
    mover = RecordMover(records, after_s=10, clock=lambda: now[0])
    for job in jobs:
        mover.add(job)
    await keeper.request(kv_subject(RECORDS_BUCKET, jobs[0]), b'{"of": "another version"}')
    await mover.move_due()
    assert len(mover) == 40, "none is due yet"
    now[0] = 13.0
    await mover.move_due()
    assert len(mover) == 1
    assert [await where(keeper, job) for job in jobs[1:]] == [[ENDED_BUCKET]] * 39
    async with asyncio.timeout(5):
        await mover.move_due()
    assert await where(keeper, jobs[0]) == [RECORDS_BUCKET]
