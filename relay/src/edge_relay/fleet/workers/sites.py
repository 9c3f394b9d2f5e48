"""Sites, computed from their workers."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from edge_relay.desired.state import DesiredState
from edge_relay.fleet.lists.pages import Column, Order, unix
from edge_relay.fleet.workers.index import WorkerView
from edge_schemas.admin.rows import SiteRow, SiteState
from edge_schemas.admin.view_queries import SiteQuery
from edge_schemas.wire.workers import WorkerState

SLACK_S = 5.0
"""Workers that lose their link at the same moment have last polled within one poll timeout and this."""

SITE_ORDER: Order[SiteRow] = Order(
    {
        "site": Column(lambda row: row.site, is_text=True),
        "state": Column(lambda row: row.state.value, is_text=True),
        "since": Column(lambda row: unix(row.since)),
        "workers": Column(lambda row: row.workers),
        "online": Column(lambda row: row.online),
        "offline": Column(lambda row: row.offline),
        "slots": Column(lambda row: row.slots),
        "running": Column(lambda row: row.running),
    },
    lambda row: row.site,
)


def site_rows(views: Iterable[WorkerView], desired: DesiredState, now: datetime) -> list[SiteRow]:
    """A row for each site that ever had a worker. Revoked workers are not counted."""
    by_site: dict[str, list[WorkerView]] = defaultdict(list)
    for view in views:
        by_site[view.site].append(view)
    return [_row(site, of_site, desired, now) for site, of_site in sorted(by_site.items())]


def matching_sites(rows: Iterable[SiteRow], query: SiteQuery) -> Iterator[SiteRow]:
    """The sites that match all that is given."""
    text = (query.text or "").lower()
    for row in rows:
        if (query.state is None or row.state is query.state) and text in row.site:
            yield row


def _row(site: str, views: list[WorkerView], desired: DesiredState, now: datetime) -> SiteRow:
    valid = [view for view in views if view.state is not WorkerState.REVOKED]
    seen = [view for view in valid if view.poll is not None]
    offline = [view for view in seen if view.state is WorkerState.OFFLINE]
    online = [view for view in seen if view.state is not WorkerState.OFFLINE]
    state, since = _state(online, offline)
    order = desired.site(site).order
    return SiteRow(
        site=site,
        state=state,
        since=since,
        order=None if order is None or order.is_over(now) else order,
        workers=len(valid),
        online=len(online),
        offline=len(offline),
        paused=sum(view.state in {WorkerState.PAUSED, WorkerState.DRAINING} for view in online),
        slots=sum(view.poll.slots for view in online if view.poll),
        running=sum(view.running or 0 for view in seen),
        lost_together=lost_together(offline) if state is SiteState.OFFLINE else 0,
    )


def _state(online: list[WorkerView], offline: list[WorkerView]) -> tuple[SiteState, datetime | None]:
    heard = [view.poll.at for view in offline if view.poll]
    if not online and not offline:
        return SiteState.EMPTY, None
    if not offline:
        return SiteState.ONLINE, None
    return (SiteState.DEGRADED, min(heard)) if online else (SiteState.OFFLINE, max(heard))


def lost_together(silent: list[WorkerView]) -> int:
    """How many silent workers were last heard at the same time, as far as that can be known; 0 for a single one."""
    polls = [view.poll for view in silent if view.poll is not None]
    if not polls:
        return 0
    last = max(poll.at for poll in polls)
    found = sum(last - poll.at <= timedelta(seconds=poll.poll_timeout_s + SLACK_S) for poll in polls)
    return found if found > 1 else 0
