"""Who has gone silent and who is back, decided without I/O: a site that lost its link is told from a worker that died.

Silence is measured by the clock of `Fleet`, which stands still while no poll can arrive, and from the start of the
replica at the earliest. So neither an outage of the broker nor a restart of relays makes anyone silent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from edge_relay.fleet.workers.sites import SLACK_S

MAX_NAMED = 20


@dataclass(slots=True)
class Contact:
    """A worker that has polled.

    Attributes:
        heard_at: When its last poll was received, by the clock of `Fleet`.
        last_poll_at: By the clock of the relay that received it; the same for all replicas.
        age_s: How old the poll was when it was received: large after a start of this replica.
        left: It drained, and so has left in order if it is silent.
    """

    worker: str
    site: str
    heard_at: float
    last_poll_at: datetime
    age_s: float
    offline_after_s: float
    poll_timeout_s: float
    left: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A site or a worker was lost, or is back.

    Attributes:
        worker: None if it is about the site.
        since: The last contact before the silence.
        workers: How many of the site are meant.
    """

    lost: bool
    site: str
    worker: str | None
    since: datetime
    workers: int
    names: tuple[str, ...]


@dataclass(slots=True)
class _Lost:
    """A site or a worker that is lost.

    Attributes:
        noted_at: By the clock of `Fleet`; who is heard later is back.
        assumed: It was silent when this replica began, and no event has told of it yet, as far as this replica knows.
    """

    since: datetime
    noted_at: float
    assumed: bool = False


class Contacts:
    """Remembers who is lost. What it returns is to be reported once by all replicas together."""

    def __init__(self) -> None:
        self._lost_sites: dict[str, _Lost] = {}
        self._lost_workers: dict[str, _Lost] = {}
        self._last_heard: dict[str, float] = {}
        self._back_at: dict[str, float] = {}
        self._began = False

    def check(self, contacts: Iterable[Contact], now: float) -> list[Event]:
        """What has happened since the last check.

        Args:
            contacts: All workers that have polled and are not revoked.
            now: By the clock of `Fleet`.
        """
        by_site: dict[str, list[Contact]] = defaultdict(list)
        names: set[str] = set()
        for contact in contacts:
            by_site[contact.site].append(contact)
            names.add(contact.worker)
        for known, valid in ((self._lost_sites, by_site.keys()), (self._lost_workers, names)):
            for gone in known.keys() - valid:
                del known[gone]
        for times in (self._last_heard, self._back_at):
            for gone in times.keys() - by_site.keys():
                del times[gone]
        if not self._began:
            self._began = True
            self._begin(by_site, now)
        return [event for site, members in by_site.items() for event in self._check_site(site, members, now)]

    def _begin(self, by_site: dict[str, list[Contact]], now: float) -> None:
        """Who was silent already is assumed to be lost: an event may have told of it before this replica began."""
        for site, members in by_site.items():
            silent = [member for member in members if member.age_s > member.offline_after_s]
            if len(silent) == len(members):
                self._lost_sites[site] = _Lost(_last(silent), now, assumed=True)
            for member in silent:
                self._lost_workers[member.worker] = _Lost(member.last_poll_at, now, assumed=True)

    def _check_site(self, site: str, members: list[Contact], now: float) -> Iterator[Event]:
        self._note_gap(site, members, now)
        # Once a site is back, each of its workers has the whole time to be heard again.
        back_at = self._back_at.get(site, float("-inf"))
        silent = [one for one in members if now - max(one.heard_at, back_at) > one.offline_after_s]
        all_silent = len(silent) == len(members)
        lost = self._lost_sites.get(site)
        if lost is not None:
            if any(member.heard_at > lost.noted_at for member in members):
                del self._lost_sites[site]
                self._back_at[site] = now
                yield _event(site, members, lost.since, lost=False)
            elif lost.assumed and all_silent:
                lost.assumed = False
                yield _event(site, members, lost.since, lost=True)
        elif all_silent and (present := [member for member in members if not member.left]):
            self._lost_sites[site] = _Lost(_last(present), now)
            yield _event(site, present, _last(present), lost=True)
        elif silent:
            yield from self._check_workers(site, members, silent, now)
        for member in members if self._lost_workers else ():
            known = self._lost_workers.get(member.worker)
            if known is not None and member.heard_at > known.noted_at:
                del self._lost_workers[member.worker]
                yield _event(site, [member], known.since, lost=False, worker=member.worker)

    def _check_workers(self, site: str, members: list[Contact], silent: list[Contact], now: float) -> Iterator[Event]:
        """Single workers of a site that is not lost."""
        last = max((member.heard_at for member in members), default=now)
        for member in silent:
            known = self._lost_workers.get(member.worker)
            if member.left or (known is not None and not known.assumed):
                continue
            if last <= member.heard_at + member.poll_timeout_s + SLACK_S:
                continue  # perhaps the site's link is lost, and the others are about to be silent as well
            self._lost_workers[member.worker] = _Lost(member.last_poll_at, now)
            yield _event(site, [member], member.last_poll_at, lost=True, worker=member.worker)

    def _note_gap(self, site: str, members: list[Contact], now: float) -> None:
        """A site may have been away and back between two checks: then no worker of it has died, as far as is known."""
        last = max([member.heard_at for member in members])
        before = self._last_heard.get(site, last)
        self._last_heard[site] = last
        if last - before > max([member.poll_timeout_s for member in members]) + SLACK_S:
            self._back_at[site] = now


def _last(members: list[Contact]) -> datetime:
    return max(member.last_poll_at for member in members)


def _event(site: str, members: list[Contact], since: datetime, *, lost: bool, worker: str | None = None) -> Event:
    names = tuple(sorted(member.worker for member in members)[:MAX_NAMED])
    return Event(lost, site, worker, since, len(members), names)
