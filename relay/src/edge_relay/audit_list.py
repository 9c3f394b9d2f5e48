"""Pages of the audit, the newest events first, read from `EDGE_AUDIT` in bounded steps.

A page reads windows of the stream from its end backwards. How many events there are does not matter for its cost: after
`MAX_READS` windows a page ends, also if it is not full, and its cursor continues there.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.direct_get import BatchMessage, read_batch
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import AUDIT
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.admin.rows import AuditPage
from edge_schemas.wire.ids import encode_name

log = structlog.get_logger(__name__)

READ_S = 5.0
MAX_READS = 24
"""For one page, besides the search for a time."""
BATCH = 512
BATCH_BYTES = 1 << 20
MAX_WINDOW = 1 << 20
CLOCKS_DIFFER = timedelta(minutes=1)
"""An event's time is its publisher's; it is stored a moment later, by the server's clock."""
_FEW = BATCH // 4


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events are shown: those that match all that is given.

    Attributes:
        actor: The whole name.
        text: Part of action, target, site, queue, actor or reason.
        since: The oldest time.
        until: Before this time.
    """

    kind: TargetKind | None = None
    target: str | None = None
    action: str | None = None
    actor: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def subjects(self) -> str:
        """The pattern of the subjects; events of older versions are found only without kind, target and action."""
        if self.kind is None and self.target is None and self.action is None:
            return "edge.audit.>"
        target = "*" if self.target is None else encode_name(self.target)
        return f"edge.audit.{self.kind or '*'}.{target}.{self.action or '*'}"

    def matches(self, event: AuditEvent) -> bool:
        """What the subject does not decide."""
        if self.actor is not None and event.actor.name != self.actor:
            return False
        if (self.since is not None and event.at < self.since) or (self.until is not None and event.at >= self.until):
            return False
        if self.text is None:
            return True
        texts = (event.action, event.target, event.site, event.queue, event.actor.name, event.reason)
        return any(self.text.casefold() in one.casefold() for one in texts if one is not None)


class AuditList:
    """Reads the audit."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def page(self, wanted: AuditFilter, scope: AccessScope, *, limit: int, before: int | None) -> AuditPage:
        """A page of events.

        Args:
            wanted: Which events.
            scope: What the caller may see.
            limit: The most events.
            before: The cursor of the page before: only events with a lower number.

        Raises:
            BrokerUnavailable: The stream can't be read.
        """
        as_of = datetime.now(UTC)
        try:
            async with asyncio.timeout(2 * READ_S):
                items, position = await self._read(wanted, scope, limit, before)
        except TimeoutError:
            raise BrokerUnavailable(f"the audit could not be read within {2 * READ_S:g} s") from None
        return AuditPage(items=tuple(items), next=None if position is None else str(position), as_of=as_of)

    async def _read(
        self, wanted: AuditFilter, scope: AccessScope, limit: int, before: int | None
    ) -> tuple[list[AuditEvent], int | None]:
        """The events, and the number before which the next page begins; None if there is none."""
        state = (await stream_info(self._broker, AUDIT))["state"]
        end = state["last_seq"] + 1
        if before is not None:
            end = min(end, before)
        elif wanted.until is not None:
            end = await self._first_since(wanted.until, end)
        window, items = BATCH, list[AuditEvent]()
        for _ in range(MAX_READS):
            begin = max(1, end - window)
            found, is_cut = await self._window(wanted.subjects, begin, end)
            if is_cut:  # the newest events of the window did not fit into a batch
                window = max(1, window // 4)
                continue
            for message in reversed(found):
                if wanted.since is not None and message.stored_at + CLOCKS_DIFFER < wanted.since:
                    return items, None
                event = parse_event(message)
                if event is not None and wanted.matches(event) and is_visible(event, scope):
                    items.append(event)
                    if len(items) == limit:
                        return items, message.sequence
            end = begin
            if end <= 1 or state["messages"] == 0:
                return items, None
            if len(found) < _FEW:
                window = min(window * 4, MAX_WINDOW)
        return items, end

    async def _window(self, subjects: str, begin: int, end: int) -> tuple[list[BatchMessage], bool]:
        """The messages from `begin` to before `end`, and whether there are more of them than fit into a batch."""
        batch = await read_batch(
            self._broker, AUDIT, subjects, after=begin - 1, max_messages=BATCH, max_bytes=BATCH_BYTES
        )
        found = [message for message in batch.messages if message.sequence < end]
        is_cut = batch.more and len(found) == len(batch.messages) and bool(found) and found[-1].sequence < end - 1
        return found, is_cut and end - begin > 1

    async def _first_since(self, time: datetime, end: int) -> int:
        """The number of the first message that was surely published at this time or later, by halving.

        Instants at the edge of the calendar can't be moved, so the stored ones are.
        """
        low, high = 1, end
        while low < high:
            middle = (low + high) // 2
            batch = await read_batch(
                self._broker, AUDIT, "edge.audit.>", after=middle - 1, max_messages=1, max_bytes=BATCH_BYTES
            )
            if batch.messages and batch.messages[0].stored_at - CLOCKS_DIFFER < time:
                low = batch.messages[0].sequence + 1
            else:
                high = middle
        return low


def is_visible(event: AuditEvent, scope: AccessScope) -> bool:
    """Whether a caller with this scope may see an event. An event without site and queue is for unlimited callers."""
    judged = []
    if scope.sites is not None and event.site is not None:
        judged.append(scope.has_site(event.site))
    if scope.queues is not None and event.queue is not None:
        judged.append(scope.has_queue(event.queue))
    return scope.is_everything or (bool(judged) and all(judged))


def parse_event(message: BatchMessage) -> AuditEvent | None:
    """The event in a message, also of an older version; None if it can't be read."""
    try:
        content = orjson.loads(message.data)
        if isinstance(content, dict) and "target_kind" not in content:
            content = _from_flat(content, message)
        return AuditEvent.model_validate({**content, "sequence": message.sequence})
    except (orjson.JSONDecodeError, ValidationError, TypeError, KeyError) as error:
        log.warning("audit_event_unreadable", sequence=message.sequence, error=type(error).__name__)
        return None


def _from_flat(content: Mapping[str, object], message: BatchMessage) -> dict[str, object]:
    """An event of an older version had its facts side by side with time and action."""
    kind = next((kind for kind in ("job", "worker", "queue") if kind in content), "token")
    author = next(((name, content[name]) for name in ("relay", "keeper") if name in content), ("system", "unknown"))
    actor = Actor(kind=ActorKind.SYSTEM, name=f"{author[0]} {author[1]}")
    if (operator := content.get("operator")) is not None:
        actor = Actor(kind=ActorKind.OPERATOR, name=str(operator))
    known = {"at", "action", "operator", "reason", "site", "queue", author[0]}
    return {
        "at": content.get("at") or message.stored_at,
        "action": content["action"],
        "target_kind": kind,
        "target": str(content.get(kind, "")),
        "actor": actor,
        **{name: str(content[name]) for name in ("reason", "site", "queue") if content.get(name) is not None},
        "facts": {name: value for name, value in content.items() if name not in {*known, kind}} or None,
    }
