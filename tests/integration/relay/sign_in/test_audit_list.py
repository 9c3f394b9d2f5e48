"""Pages of the audit: the newest first, filtered, in bounded reads, also with events of older versions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from edge_broker.audit import Audit
from edge_broker.jetstream import direct_get
from edge_broker.jetstream.direct_get import Batch
from edge_relay import audit_list
from edge_relay.audit_list import BATCH, MAX_READS, AuditFilter, AuditList, is_visible
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.edge import Edge

EVERYTHING = AccessScope()


async def get(edge: Edge, token: str | None = None, **query: Any) -> Any:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    reply = await edge.call("GET", f"{routes.ADMIN_AUDIT}?{asked}", token or edge.access_token, operators=True)
    assert reply.status == 200, reply.body
    return reply.json


async def record(edge: Edge, number: int, action: str = "worker-paused", **more: Any) -> None:
    audit = Audit(edge.broker, "tests")
    await audit.record(action, TargetKind.WORKER, f"w-{number}", reason=f"reason {number}", **more)


async def stored(edge: Edge, count: int) -> None:
    async def is_stored() -> bool:
        return len((await get(edge, limit=1000))["items"]) >= count

    await eventually(is_stored, what=f"{count} events")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each read of the stream brought."""
    sizes: list[int] = []
    real = direct_get.read_batch

    async def count(*args: Any, **more: Any) -> Batch:
        batch = await real(*args, **more)
        sizes.append(len(batch.messages))
        return batch

    monkeypatch.setattr(audit_list, "read_batch", count)
    return sizes


async def test_pages_have_every_event_once_the_newest_first(edge: Edge) -> None:
    for number in range(25):
        await record(edge, number)
    await stored(edge, 25)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(edge, limit=10, **cursor)
        seen += [one["target"] for one in page["items"]]
        numbers = [one["sequence"] for one in page["items"]]
        assert numbers == sorted(numbers, reverse=True)
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
        await record(edge, 100)  # what comes meanwhile moves nothing
    assert seen == [f"w-{number}" for number in reversed(range(25))]


async def test_each_filter_selects(edge: Edge) -> None:
    ann = Actor(kind=ActorKind.OPERATOR, name="ann")
    await record(edge, 1, actor=ann, site="plant")
    await record(edge, 2, "worker-resumed")
    await Audit(edge.broker, "tests").record("queue-paused", TargetKind.QUEUE, "a queue", queue="a queue")
    await stored(edge, 3)
    for query, found in (
        ({"kind": "queue"}, ["a queue"]),
        ({"target": "w-1"}, ["w-1"]),
        ({"target": "a%20queue"}, ["a queue"]),
        ({"action": "worker-resumed"}, ["w-2"]),
        ({"actor": "ann"}, ["w-1"]),
        ({"text": "REASON%202"}, ["w-2"]),
        ({"text": "pla"}, ["w-1"]),
        ({"kind": "worker", "action": "queue-paused"}, []),
    ):
        assert [one["target"] for one in (await get(edge, **query))["items"]] == found, query


async def test_times_select(edge: Edge) -> None:
    for number in range(3):
        await record(edge, number)
    await stored(edge, 3)
    events = (await get(edge))["items"]
    middle = datetime.fromisoformat(events[1]["at"]).astimezone(UTC)
    listing = AuditList(edge.relays[0].parts.broker)
    for wanted, found in (
        (AuditFilter(since=middle), ["w-2", "w-1"]),
        (AuditFilter(until=middle), ["w-0"]),
        (AuditFilter(since=middle + timedelta(hours=1)), []),
        (AuditFilter(until=middle - timedelta(hours=1)), []),
    ):
        page = await listing.page(wanted, EVERYTHING, limit=10, before=None)
        assert [one.target for one in page.items] == found, wanted
    at = middle.isoformat().replace("+00:00", "Z")
    assert len((await get(edge, since=at))["items"]) == 2


async def test_a_wrong_query_is_refused_with_what_is_wrong(edge: Edge) -> None:
    for query in (
        "limit=0",
        "limit=5000",
        "kind=planet",
        "since=yesterday",
        "cursor=x",
        "who=ann",
        "action=a.b",
        "target=",
    ):
        reply = await edge.admin("GET", f"{routes.ADMIN_AUDIT}?{query}")
        assert (reply.status, reply.code) == (400, "invalid_request"), query
        assert query.partition("=")[0] in reply.json["detail"], reply.json


async def test_events_of_older_versions_are_read(edge: Edge) -> None:
    at = datetime.now(UTC).isoformat()
    revoked = {"at": at, "action": "worker-revoked", "relay": "eu-1", "operator": "ann", "worker": "w"}
    created = {"at": at, "action": "enroll-token-created", "operator": "ann", "site": "s"}
    older: list[tuple[str, Any]] = [
        ("edge.audit.worker-revoked", revoked),
        ("edge.audit.job-parked", {"at": at, "action": "job-parked", "keeper": "k", "job": "j", "reason": "r"}),
        ("edge.audit.enroll-token-created", created),
        ("edge.audit.odd", {"no": "action"}),
        ("edge.audit.odd", [1]),
    ]
    for subject, content in older:
        await edge.broker.store(subject, orjson.dumps(content))
    await edge.broker.store("edge.audit.odd", b"no JSON")
    page = await get(edge)
    assert [(one["action"], one["target_kind"], one["target"]) for one in page["items"]] == [
        ("enroll-token-created", "token", ""),
        ("job-parked", "job", "j"),
        ("worker-revoked", "worker", "w"),
    ]
    assert [one["actor"]["name"] for one in page["items"]] == ["ann", "keeper k", "ann"]
    assert page["items"][1]["reason"] == "r"


async def test_a_page_reads_a_bounded_part_of_a_long_stream(edge: Edge, reads: list[int]) -> None:
    event = AuditEvent(
        at=datetime.now(UTC),
        action="worker-paused",
        target_kind=TargetKind.WORKER,
        target="w",
        actor=Actor(kind=ActorKind.SYSTEM, name="tests"),
    )
    content = event.model_dump_json(exclude_none=True, exclude={"sequence"}).encode()

    async def fill(number: int) -> None:
        for _ in range(100):
            await edge.broker.store(f"edge.audit.worker.w-{number}.worker-paused", content)

    await record(edge, 999)
    await asyncio.gather(*(fill(number) for number in range(40)))
    listing = AuditList(edge.relays[0].parts.broker)
    page = await listing.page(AuditFilter(), EVERYTHING, limit=100, before=None)
    assert (len(page.items), len(reads)) == (100, 1), "the cost of a page does not grow with the stream"
    reads.clear()
    page = await listing.page(AuditFilter(kind=TargetKind.WORKER, target="w-999"), EVERYTHING, limit=100, before=None)
    assert [one.target for one in page.items] == ["w-999"]
    assert len(reads) <= 6, "the oldest of 4001 events, found by its subject"
    reads.clear()
    unknown = AuditFilter(actor="nobody")
    page = await listing.page(unknown, EVERYTHING, limit=100, before=None)
    assert page.items == ()
    assert len(reads) <= MAX_READS
    assert max(reads) <= BATCH


async def test_a_page_that_finds_little_ends_and_is_continued(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        await record(edge, number)
    await stored(edge, 30)
    monkeypatch.setattr(audit_list, "BATCH", 2)
    monkeypatch.setattr(audit_list, "MAX_READS", 3)
    listing = AuditList(edge.relays[0].parts.broker)
    found, cursor, pages = [], None, 0
    while True:
        page = await listing.page(AuditFilter(text="reason 3"), EVERYTHING, limit=10, before=cursor)
        found += [one.target for one in page.items]
        pages += 1
        if page.next is None:
            break
        cursor = int(page.next)
        assert pages < 30
    assert found == ["w-3"]
    assert pages > 1


def test_the_scope_decides_by_site_and_queue() -> None:
    def event(**more: Any) -> AuditEvent:
        actor = Actor(kind=ActorKind.SYSTEM, name="x")
        return AuditEvent(at=datetime.now(UTC), action="a", target_kind=TargetKind.JOB, target="t", actor=actor, **more)

    north, fast = AccessScope(sites=("north",)), AccessScope(queues=("fast",))
    both = AccessScope(sites=("north",), queues=("fast",))
    for facts, visible in (
        ({}, (False, False, False)),
        ({"site": "north"}, (True, False, True)),
        ({"site": "south"}, (False, False, False)),
        ({"queue": "fast"}, (False, True, True)),
        ({"site": "north", "queue": "slow"}, (True, False, False)),
        ({"site": "south", "queue": "fast"}, (False, True, False)),
        ({"site": "north", "queue": "fast"}, (True, True, True)),
    ):
        assert tuple(is_visible(event(**facts), scope) for scope in (north, fast, both)) == visible, facts
        assert is_visible(event(**facts), EVERYTHING)
