"""The change stream: reports which lists to read again. It is computed once for all clients, and never without any."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import AUDIT
from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_relay.fleet.queues.counts import ConsumerCounts
from edge_relay.fleet.queues.flow import QueueKey
from edge_relay.fleet.views import FleetViews
from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.kinds import Limit, OnLimit, ignore
from edge_schemas.admin.desired import QUEUE_PREFIX
from edge_schemas.admin.rows import Change
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

EVENT_EVERY_S = 1.0
ALIVE_EVERY_S = 1.0
"""A client learns so often how old the relay's knowledge is, and that the connection is whole."""
MAX_CLIENTS = 200
RETRY_S = 10.0

WORKERS, SITES, QUEUES, JOBS, TOKENS, AUDIT_VIEW = "workers", "sites", "queues", "jobs", "tokens", "audit"


class _Client:
    """What a client has not been told yet. One that is slow is told everything at once later."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.views: set[str] = set()
        self.ready = asyncio.Event()


class Changes:
    """Follows what lists show, for all clients together. Run `run()` in a task group.

    Args:
        broker: The connection.
        views: The lists.
        lifecycle: Ends the streams.
        of_operator: How many streams one operator may have.
        on_limit: Counts refusals.
    """

    def __init__(
        self, broker: Broker, views: FleetViews, lifecycle: Lifecycle, *, of_operator: int, on_limit: OnLimit = ignore
    ) -> None:
        self._of_operator = of_operator
        self._on_limit = on_limit
        self._broker = broker
        self._views = views
        self._lifecycle = lifecycle
        self._clients: set[_Client] = set()
        self._changed: set[str] = set()
        self._again: dict[str, float] = {}
        self._has_clients = asyncio.Event()
        self._audit_at = 0
        self._queues: Mapping[QueueKey, ConsumerCounts] = {}
        sources = views.sources
        self._clock = sources.fleet.clock
        sources.fleet.on_entry(lambda _, __: self.mark(WORKERS, SITES))
        sources.credentials.on_change(lambda _: self.mark(WORKERS, SITES, TOKENS))
        sources.desired.on_change(self._desired_changed)
        sources.mirror.on_record(self._record_changed)
        lifecycle.on_stop(self._stop)

    def mark(self, *views: str) -> None:
        """These lists have changed."""
        if self._clients:
            self._changed.update(views)

    async def run(self) -> None:
        """Compute once a second while there are clients, until cancelled."""
        while True:
            await self._has_clients.wait()
            await asyncio.sleep(EVENT_EVERY_S)
            await self._compare()
            self._announce()
            if not self._clients:
                self._has_clients.clear()

    async def follow(self, owner: str) -> AsyncGenerator[bytes, None]:
        """The events of one client, until the replica stops: `change` and `alive`. The first one names all lists.

        Args:
            owner: The client's operator; see `Operator.owner`.

        Raises:
            EdgeError: `rate_limited`: too many clients, of this operator or in all; `draining`.
        """
        self._lifecycle.check()
        self._check_room(owner)
        client = _Client(owner)
        client.views = {WORKERS, SITES, QUEUES, JOBS, TOKENS, AUDIT_VIEW}
        client.ready.set()
        self._clients.add(client)
        self._has_clients.set()
        try:
            while not self._lifecycle.stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_EVERY_S):
                        await client.ready.wait()
                client.ready.clear()
                if client.views or not self._lifecycle.stopping.is_set():
                    change = Change(views=tuple(sorted(client.views)), as_of=self._clock.as_of())
                    client.views = set()
                    yield _event(change)
        finally:
            self._clients.discard(client)

    def _check_room(self, owner: str) -> None:
        own = sum(client.owner == owner for client in self._clients)
        if own >= self._of_operator:
            limit, text = Limit.CHANGE_STREAMS_OF_OPERATOR, f"{own} streams of this operator are open here"
        elif len(self._clients) >= MAX_CLIENTS:
            limit, text = Limit.CHANGE_STREAMS, f"{MAX_CLIENTS} streams are open here"
        else:
            return
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, text, retry_after_s=RETRY_S)

    def _announce(self) -> None:
        """Name what has changed; once more when a list that was computed before the change is no longer kept."""
        changed, self._changed = self._changed, set()
        now = asyncio.get_running_loop().time()
        due = {view for view, at in self._again.items() if at <= now}
        kept_for_s = self._views.kept_for_s
        later = dict.fromkeys(changed, now + kept_for_s) if kept_for_s > 0 else {}
        self._again = {view: at for view, at in self._again.items() if view not in due} | later
        changed |= due
        if not changed:
            return
        for client in self._clients:
            client.views |= changed
            client.ready.set()

    async def _compare(self) -> None:
        """What no watch shows: messages that were granted, and events of other replicas."""
        try:
            audit_at = (await stream_info(self._broker, AUDIT))["state"]["last_seq"]
            queues = (await self._views.counts()).value.consumers
        except (BrokerUnavailable, JetStreamError) as error:
            log.debug("changes_not_compared", error=str(error))
            return
        if audit_at != self._audit_at:
            self.mark(AUDIT_VIEW)
        if queues != self._queues:
            self.mark(QUEUES)
        self._audit_at, self._queues = audit_at, queues

    def _record_changed(self, _: WatchedJob | None, __: WatchedJob | None) -> None:
        self.mark(JOBS, QUEUES)

    def _desired_changed(self, key: str) -> None:
        if key.startswith(QUEUE_PREFIX):
            self.mark(QUEUES)
        else:
            self.mark(WORKERS, SITES, QUEUES)

    def _stop(self) -> None:
        for client in self._clients:
            client.ready.set()


def _event(change: Change) -> bytes:
    name = b"change" if change.views else b"alive"
    return b"event: " + name + b"\ndata: " + change.model_dump_json(exclude_defaults=True).encode() + b"\n\n"
