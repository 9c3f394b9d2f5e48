"""How a command shows what it reads: once, as JSON, or again and again."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from edge_relay.cli.admin_client import AdminClient, connect, parse
from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE, Failure, print_json, printable
from edge_relay.cli.show.screen import Cell, Colour, Screen, screen
from edge_relay.cli.show.table import Column, Table, cut

PAGE_ROWS = 500
REFRESH_S = 2.0
_LINES_AROUND = 4
"""Of a watched list: heading, header, what is left out, cursor."""

Shown = TypeVar("Shown", bound=BaseModel)
Row = TypeVar("Row")


@dataclass(frozen=True)
class View(Generic[Shown]):
    """Something that a command reads and shows.

    Attributes:
        lines: What people see of it.
        query: Without empty values.
    """

    path: str
    model: type[Shown]
    lines: Callable[[Shown, Screen], Iterable[str]]
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ListView(Generic[Row]):
    """A list that a command reads page by page.

    Attributes:
        page: Its model, with `items`.
        cells: A row's cells, one for each column.
        empty: What to say, and to do, if there is none.
        notes: Lines below the table about single rows.
    """

    path: str
    page: type[BaseModel]
    columns: Sequence[Column]
    cells: Callable[[Row, Screen], Sequence[str | Cell]]
    empty: str
    query: Mapping[str, str] = field(default_factory=dict)
    notes: Callable[[Row], Iterable[str]] | None = None


def query_of(**values: object) -> dict[str, str]:
    """The parameters that have a value."""
    return {
        name: ("true" if value is True else ",".join(value) if isinstance(value, list | tuple) else str(value))
        for name, value in values.items()
        if value not in (None, False, [], ())
    }


def sort_of(options: Namespace) -> str | None:
    """The order of a list, as the query names it.

    Raises:
        Failure: `--reverse` without `--sort`.
    """
    if options.reverse and options.sort is None:
        raise Failure("--reverse needs --sort FIELD", EXIT_USAGE)
    return f"-{options.sort}" if options.reverse else options.sort


def show(options: Namespace, view: View[Shown]) -> None:
    """Show it, as the options want it."""
    client = connect(options)
    if options.watch:
        _watch(options, client, view.path, view.query, lambda body, on: view.lines(parse(view.model, body), on))
        return
    body = client.read(view.path, view.query).body or b""
    if options.json:
        print_json(_json(body))
        return
    _print(view.lines(parse(view.model, body), screen(exact=options.utc)))


def show_list(options: Namespace, view: ListView[Row]) -> None:
    """Show a list, as the options want it. Pages are read as they are printed."""
    client = connect(options)
    if options.watch:
        on = screen(exact=options.utc)
        rows = min(options.limit or PAGE_ROWS, max(1, on.height - _LINES_AROUND))
        query = {**view.query, "limit": str(rows)}
        _watch(options, client, view.path, query, lambda body, on: _watched_rows(view, body, on))
    elif options.json:
        print_json(_joined(pages(client, view.path, view.query, options.limit)))
    else:
        _print(_list_lines(view, client, options))


def pages(
    client: AdminClient, path: str, query: Mapping[str, str], limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The pages of a list, each read when it is asked for.

    Args:
        limit: The most rows in all.
    """
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = _json(client.read(path, {**query, "limit": str(size), **more}).body or b"")
        items = page.get("items")
        if not isinstance(items, list):
            raise Failure("the answer has no rows: is it from a relay of this version? Check --url")
        yield page
        if left is not None:
            left -= len(items)
        before, cursor = cursor, page.get("next")
        if cursor is None or cursor == before:
            return


def _list_lines(view: ListView[Row], client: AdminClient, options: Namespace) -> Iterator[str]:
    on = screen(exact=options.utc)
    table, notes, shown, total = Table(view.columns, on), [], 0, None
    for document in pages(client, view.path, view.query, options.limit):
        page = parse(view.page, json.dumps(document).encode())
        rows: Sequence[Row] = page.items  # type: ignore[attr-defined]  # every page has items
        shown, total = shown + len(rows), document.get("total")
        if rows:
            yield from table.lines(view.cells(row, on) for row in rows)
        if view.notes is not None:
            notes += [note for row in rows for note in view.notes(row)]
    if not shown:
        yield view.empty
    elif total is not None and total > shown:
        yield on.paint(f"{shown} of {total} are shown; --limit shows more.", Colour.FAINT)
    yield from (f"\n{printable(note, keep=chr(10))}" for note in notes)


def _watched_rows(view: ListView[Row], body: bytes, on: Screen) -> Iterator[str]:
    page = parse(view.page, body)
    rows: Sequence[Row] = page.items  # type: ignore[attr-defined]  # every page has items
    if not rows:
        yield view.empty
        return
    yield from Table(view.columns, on).lines(view.cells(row, on) for row in rows)
    total, has_more = page.total, page.next is not None  # type: ignore[attr-defined]  # every page has them
    if total is not None and total > len(rows):
        yield on.paint(f"… and {total - len(rows)} more: filters and --sort choose what is shown", Colour.FAINT)
    elif has_more:
        yield on.paint("… and more: filters and --sort choose what is shown", Colour.FAINT)


def _watch(
    options: Namespace,
    client: AdminClient,
    path: str,
    query: Mapping[str, str],
    lines: Callable[[bytes, Screen], Iterable[str]],
) -> None:
    """Show it every two seconds until Ctrl-C. The relay sends it only if it has changed."""
    if not options.json and not sys.stdout.isatty():
        raise Failure("--watch needs a terminal, or --json: then each change is a line", EXIT_USAGE)
    body, etag, lost = b"", None, ""
    try:
        while True:
            try:
                answer = client.read(path, query, etag=etag)
                etag, lost, is_new = answer.etag, "", answer.body is not None
                body = answer.body if answer.body is not None else body
            except Failure as failure:
                # A relay that restarts is no reason to end; what is shown is marked as old.
                if failure.status != EXIT_NO_ANSWER or not body:
                    raise
                lost, is_new = str(failure), False
            if options.json:
                if is_new:
                    print(json.dumps(_json(body)), flush=True)
            else:
                _redraw(lines(body, screen(exact=options.utc)), lost)
            time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        print()


def _redraw(lines: Iterable[str], lost: str) -> None:
    """Replace what is on the terminal. Each line is cut at its end, so that the frame keeps its height."""
    on = screen()
    heading = on.paint(f"every {REFRESH_S:g} s, Ctrl-C ends", Colour.FAINT)
    if lost:
        heading = on.paint(cut(f"OLD: {printable(lost)}", on.width or 80), Colour.BAD)
    frame = [heading, *(part for line in lines for part in line.split("\n"))][: on.height - 1]
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in frame) + "\x1b[J")
    sys.stdout.flush()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _joined(found: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """All pages as one."""
    joined: dict[str, Any] = {}
    items: list[Any] = []
    for page in found:
        joined = page
        items += page["items"]
    return {**joined, "items": items}


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failure("the answer is no JSON document: is it from a relay? Check --url")
    return found
