"""`edge-relay audit`: who changed what, and what the system found."""

import sys
from argparse import Namespace
from datetime import datetime

from edge_relay.cli.arguments.option_types import period
from edge_relay.cli.fleet.views import ListView, query_of, show_list
from edge_relay.cli.show.screen import Cell, Screen, iso
from edge_relay.cli.show.table import Column
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.admin.rows import AuditPage
from edge_schemas.wire import routes

_COLUMNS = (
    Column("WHEN"),
    Column("ACTION"),
    Column("TARGET"),
    Column("BY", shrinks=True),
    Column("REASON", shrinks=True),
    Column("CHANGE", shrinks=True),
    Column("FROM", shrinks=True),
)


def list_events(options: Namespace) -> None:
    """`audit`."""
    since, until = period(options.since, options.until, datetime.now().astimezone())
    if not options.json and (since or until):
        print(_in_words(since, until), file=sys.stderr)
    query = query_of(
        kind=options.kind,
        target=options.target,
        action=options.action,
        actor=options.by,
        text=options.text,
        since=None if since is None else iso(since),
        until=None if until is None else iso(until),
    )
    empty = "No event matches. The audit keeps what its stream EDGE_AUDIT keeps."
    show_list(options, ListView(routes.ADMIN_AUDIT, AuditPage, _COLUMNS, _cells, empty, query))


def _in_words(since: datetime | None, until: datetime | None) -> str:
    """Which day and which time zone are meant."""
    ends = [(word, at) for word, at in (("from", since), ("until", until)) if at is not None]
    return "Events " + " ".join(f"{word} {at.astimezone():%a %F %H:%M %Z (UTC%z)}" for word, at in ends) + "."


def _cells(row: AuditEvent, on: Screen) -> tuple[str | Cell, ...]:
    return (
        on.ago(row.at),
        row.action,
        row.target,
        f"{row.actor.kind.value} {row.actor.name}",
        row.reason or "-",
        _change(row),
        row.actor.address or "-",
    )


def _change(row: AuditEvent) -> str:
    """What was changed: each field with its value before and after."""
    before, after = row.before or {}, row.after or {}
    parts = [
        f"{name}: {_short(before.get(name))} → {_short(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return "; ".join(parts) or "-"


def _short(value: object) -> str:
    if value is None:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
