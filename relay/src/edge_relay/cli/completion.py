"""`edge-relay completion` and `edge-relay names`, by which the completion script asks for names."""

import re
from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator

import shtab
from pydantic import BaseModel

from edge_relay.cli.admin_client import connect, parse
from edge_relay.cli.arguments.parser import build
from edge_relay.cli.output import Failure, print_line
from edge_schemas.admin.rows import QueuePage, QueueRow, SitePage, SiteRow, WorkerPage, WorkerRow
from edge_schemas.wire import routes

ANSWER_WITHIN_S = 1.5
"""A shell waits for the answer while a person types."""
MOST_NAMES = 1000
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]*")
"""A shell may evaluate what it is offered, so no other name is."""
_LISTS: dict[str, tuple[str, type[BaseModel]]] = {
    "workers": (routes.ADMIN_WORKERS, WorkerPage),
    "sites": (routes.ADMIN_SITES, SitePage),
    "queues": (routes.ADMIN_QUEUES, QueuePage),
}
_KIND_OF = {"worker": "workers", "site": "sites", "queue": "queues", **{kind: kind for kind in _LISTS}}


def print_completion(options: Namespace) -> None:
    """`completion`: the script for a shell, with every command and option, and with names from the relay."""
    parser = build(None)
    parser.prog = "edge-relay"
    for action in _actions(parser):
        kind = _KIND_OF.get(action.dest)
        if kind is not None and action.type is None and action.choices is None and action.nargs != 0:
            action.complete = _completer(kind)  # type: ignore[attr-defined]  # shtab's own attribute
    print(shtab.complete(parser, options.shell))


def print_names(options: Namespace) -> None:
    """`names`: names that begin so, one a line; nothing if the relay does not answer at once."""
    path, model = _LISTS[options.kind]
    query = {"limit": str(MOST_NAMES)} | ({"text": options.begin} if options.begin else {})
    try:
        page = parse(model, connect(options).call("GET", path, query=query, timeout_s=ANSWER_WITHIN_S))
    except Failure:
        return  # an error would be printed into the line that a person types
    for name in sorted(set(map(_name, getattr(page, "items", ())))):
        if name.startswith(options.begin) and _SAFE.fullmatch(name):
            print_line(name)


def _name(row: WorkerRow | SiteRow | QueueRow) -> str:
    match row:
        case WorkerRow():
            return row.worker
        case SiteRow():
            return row.site
        case QueueRow():
            return row.queue


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to list them
        yield action
        if isinstance(action, _SubParsersAction):
            for command in set(action.choices.values()):
                yield from _actions(command)


def _completer(kind: str) -> dict[str, object]:
    """The function of each shell that asks for names."""
    function, ask = f"_edge_relay_{kind}", f"edge-relay names {kind}"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({ask} (commandline -ct) 2>/dev/null)",
        "preamble": {
            "bash": f'{function}() {{\n  {ask} "$1" 2>/dev/null\n}}',
            "zsh": f'{function}() {{\n  compadd -- ${{(f)"$({ask} "$PREFIX" 2>/dev/null)"}}\n}}',
        },
    }
