"""`edge-relay overview`: the fleet in one look."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

from edge_relay.cli.fleet.rows import facts, figure, sparkline
from edge_relay.cli.fleet.views import View, show
from edge_relay.cli.output import printable
from edge_relay.cli.show.screen import Colour, Screen
from edge_schemas.admin.rows import Overview
from edge_schemas.wire import routes

State = TypeVar("State", bound=StrEnum)
_SEVERITIES = {"error": Colour.BAD, "critical": Colour.BAD, "warning": Colour.WARNING}


def show_overview(options: Namespace) -> None:
    """`overview`."""
    show(options, View(routes.ADMIN_OVERVIEW, Overview, _lines))


def _lines(overview: Overview, on: Screen) -> Iterator[str]:
    yield from facts(_facts(overview, on), on)
    if overview.attention:
        yield from ("", on.paint("Look at", Colour.STRONG))
        for one in overview.attention:
            since = "" if one.since is None else f" ({on.ago(one.since)})"
            yield on.paint(printable(f"{one.severity}: {one.text}{since}"), _SEVERITIES.get(one.severity))
    if overview.next_steps:
        yield from ("", on.paint("Next", Colour.STRONG))
        for step in overview.next_steps:
            yield printable(step.text)
            if step.command is not None:
                # Not indented: it may have several lines, and is copied.
                yield from ("", *map(printable, step.command.splitlines()), "")


def _facts(overview: Overview, on: Screen) -> Iterator[tuple[str, str]]:
    yield "workers", _states(overview.workers)
    yield "sites", _states(overview.sites)
    yield "slots", f"{figure(overview.running)} of {figure(overview.slots)} are busy"
    oldest = "" if overview.oldest_at is None else f"; the oldest waits since {on.ago(overview.oldest_at)}"
    if overview.oldest_at is not None and not on.exact:
        oldest = f"; the oldest waits for {on.since(overview.oldest_at)}"
    yield "jobs", f"{figure(overview.waiting)} wait, {figure(overview.held_back)} are held back{oldest}"
    yield "dead", figure(overview.dead)
    if overview.in_per_minute or overview.out_per_minute:
        yield "in, out", f"{sparkline(overview.in_per_minute)}  {sparkline(overview.out_per_minute)}"


def _states(counts: Mapping[State, int]) -> str:
    found = [f"{count:,} {state.value}" for state, count in counts.items() if count]
    return ", ".join(found) or "none"
