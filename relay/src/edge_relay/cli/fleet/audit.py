"""`edge-relay audit`: who changed what, and what the system found."""

from argparse import Namespace

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
    query = query_of(
        kind=options.kind,
        target=options.target,
        action=options.action,
        actor=options.by,
        text=options.text,
        since=None if options.since is None else iso(options.since),
        until=None if options.until is None else iso(options.until),
    )
    empty = "No event matches. The audit keeps what its stream EDGE_AUDIT keeps."
    show_list(options, ListView(routes.ADMIN_AUDIT, AuditPage, _COLUMNS, _cells, empty, query))


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
