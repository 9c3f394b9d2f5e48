"""Reports sites and workers that are lost or back: each exactly once in the audit, however many replicas run."""

import asyncio
from collections import OrderedDict
from datetime import datetime

import structlog

from edge_broker.audit import Audit, Fact, last_event
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_relay.fleet.workers.contacts import Contact, Contacts, Event
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet import Fleet
from edge_schemas.admin.audit import AuditEvent, TargetKind

log = structlog.get_logger(__name__)

CHECK_S = 2.0
MAX_UNREPORTED = 1_000
ATTEMPTS = 5


class Outages:
    """Watches for outages. Run `run()` in a task group.

    Whether an event was reported is decided by the stream: an event is stored only behind the last one of its kind, and
    that one tells which outage it was about.
    """

    def __init__(self, broker: Broker, fleet: Fleet, credentials: Credentials, audit: Audit) -> None:
        self._broker = broker
        self._fleet = fleet
        self._credentials = credentials
        self._audit = audit
        self._contacts = Contacts()
        self._known: dict[str, Contact] = {}
        self._unreported: OrderedDict[tuple[str, str | None, bool], Event] = OrderedDict()

    async def run(self) -> None:
        """Check until cancelled."""
        await self._credentials.complete.wait()
        await self._fleet.complete.wait()
        await self._fleet.prepare()
        while True:
            if self._broker.connected and self._fleet.complete.is_set():
                self.check()
                await self.report_all()
            await asyncio.sleep(CHECK_S)

    def check(self) -> None:
        """Find what has happened; it is reported afterwards."""
        now = self._fleet.now()
        for event in self._contacts.check(self._current(now), now):
            _log(event)
            self._unreported[event.site, event.worker, event.lost] = event
            if len(self._unreported) > MAX_UNREPORTED:
                self._unreported.popitem(last=False)

    def _current(self, now: float) -> list[Contact]:
        """The workers that count. An entry is parsed only if its worker seems to be silent."""
        found: dict[str, Contact] = {}
        for access in self._credentials.workers():
            heard_at = None if access.revoked_at is not None else self._fleet.heard_at(access.worker)
            if heard_at is None:
                continue
            known = self._known.get(access.worker)
            if known is not None:
                known.heard_at = heard_at
            if known is None or now - heard_at > known.offline_after_s:
                known = self._contact(access.worker, access.site, heard_at)
            if known is not None:
                found[access.worker] = known
        self._known = found
        return list(found.values())

    def _contact(self, worker: str, site: str, heard_at: float) -> Contact | None:
        poll = self._fleet.last_poll(worker)
        if poll is None:
            return None
        return Contact(
            worker=worker,
            site=site,
            heard_at=heard_at,
            last_poll_at=poll.at,
            age_s=poll.age_s,
            offline_after_s=poll.offline_after_s,
            poll_timeout_s=poll.poll_timeout_s,
            left=poll.draining,
        )

    async def report_all(self) -> None:
        """Report what was found; what can't be reported now is kept for the next time."""
        while self._unreported:
            key, event = next(iter(self._unreported.items()))
            try:
                await self._report(event)
            except (BrokerUnavailable, JetStreamError) as error:
                log.warning("outage_not_reported", site=event.site, worker=event.worker, error=str(error))
                return  # with the next check
            self._unreported.pop(key, None)

    async def _report(self, event: Event) -> None:
        """Store the event, unless another replica has stored it, now or before this replica began."""
        kind, target = (TargetKind.SITE, event.site) if event.worker is None else (TargetKind.WORKER, event.worker)
        facts: dict[str, Fact] = {
            "since": event.since.isoformat(),
            "workers": event.workers,
            "names": ", ".join(event.names),
        }
        for _ in range(ATTEMPTS):
            offline = await last_event(self._broker, f"{kind}-offline", kind, target)
            if event.lost:
                if offline is not None and (since := _since(offline)) is not None and since >= event.since:
                    return
                action, last = f"{kind}-offline", offline
            else:
                online = await last_event(self._broker, f"{kind}-online", kind, target)
                if offline is None or (online is not None and online.sequence > offline.sequence):
                    return
                action, last = f"{kind}-online", online
            after = 0 if last is None else last.sequence
            if await self._audit.record_after(action, kind, target, after=after, site=event.site, facts=facts):
                return


def _log(event: Event) -> None:
    if event.worker is None and event.lost:
        log.warning("site_offline", site=event.site, workers=event.workers)
    elif event.worker is None:
        log.info("site_online", site=event.site, workers=event.workers)
    elif event.lost:
        log.warning("worker_offline", site=event.site, worker=event.worker)
    else:
        log.info("worker_online", site=event.site, worker=event.worker)


def _since(event: AuditEvent) -> datetime | None:
    """The last contact before the outage that an event told of."""
    try:
        return datetime.fromisoformat(str((event.facts or {})["since"]))
    except (KeyError, ValueError):
        return None
