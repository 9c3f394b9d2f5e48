"""The reference page of all log events: from the calls in the source and the texts in `log_events.toml`."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from log_events_source import LEVELS, Bound, LogCall, SourceError, bound_fields, log_calls

TABLE = Path(__file__).with_name("log_events.toml")


class TableError(Exception):
    """The table does not match the source; the text names what to change."""


@dataclass(frozen=True)
class Component:
    """A component that logs.

    Attributes:
        key: In the table.
        title: Heading of its section.
        about: Where its log goes. Markdown.
    """

    key: str
    title: str
    about: str


COMPONENTS = (
    Component("relay", "Relay", "The log of `edge-relay serve` or `edge-relay standalone`, on standard error."),
    Component("keeper", "Keeper", "The log of `airflow edge-relay keeper`, on standard error."),
    Component("executor", "Executor", "In the scheduler's log, by Airflow's logging."),
    Component("log_reader", "Log reader", "In the api-server's log, by Airflow's logging."),
    Component("page", "Page in Airflow's UI", "In the api-server's log, by Airflow's logging."),
    Component("bridge", "Executor and log reader", "From the background thread that each of the two has."),
    Component("dag_processor", "Published bundles", "In the dag-processor's log, by Airflow's logging."),
    Component("upkeep", "Upkeep of jobs", "Relay for submitted jobs; keeper and executor for jobs of Airflow."),
    Component("nats_client", "All clients of NATS", "Relay, keeper, executor and log reader; `role` names which."),
    Component("service", "Traces", "Relay, keeper and executor."),
    Component("worker_agent", "Worker agent", "The log of `edge-worker run`, on standard error."),
    Component(
        "task_host",
        "Task host",
        "In `task-host.log` in the worker's state folder, as plain lines: sentences, not events.",
    ),
)


class Entry(BaseModel):
    """The text about an event.

    Attributes:
        meaning: What the event means. Markdown.
        action: What to do about it. Markdown.
        fields: The fields that the source does not name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: str
    action: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """One event of one component, from all calls that log it."""

    component: str
    name: str
    levels: frozenset[str]
    fields: frozenset[str]
    is_open: bool
    place: str


Key = tuple[str, str]
"""Component and event."""

_TABLE: TypeAdapter[dict[str, dict[str, Entry]]] = TypeAdapter(dict[str, dict[str, Entry]])


def page() -> str:
    """The page.

    Raises:
        TableError: An event is missing in the table, or an entry has no event.
    """
    try:
        events, bound = merged(log_calls()), list(bound_fields())
    except SourceError as error:
        raise TableError(str(error)) from error
    entries = read_entries(TABLE.read_text(encoding="utf-8"))
    if problems := list(differences(events, entries)):
        raise TableError(f"{TABLE.name} does not match the source:\n  " + "\n  ".join(problems))
    sections = "".join(_section(component, events, entries, bound) for component in COMPONENTS)
    return (
        "# Log events\n\n"
        "The name of an event is stable; values are in fields. Relay, keeper and worker write one JSON object a line,\n"
        "with the keys `timestamp`, `level` and `event`, or a readable line on a terminal.\n\n"
        "Names, levels and fields come from the calls in the source. Where several calls log an event, its row has\n"
        "the fields of all of them, and a line has those of its call. `exception` is a traceback. A section also\n"
        "names the fields that the component adds to each line about a call, a job or a worker.\n\n"
        "`error` means that an operator must act, `warning` that something failed and is repeated, or was rejected,\n"
        "`info` a change that operators need to know, `debug` a step.\n"
        f"{sections}"
    )


def merged(calls: Iterator[LogCall]) -> dict[Key, Event]:
    """One event for all calls of a component that log it."""
    events: dict[Key, Event] = {}
    for call in calls:
        key = call.component, call.name
        known = events.get(key)
        events[key] = Event(
            call.component,
            call.name,
            call.levels | (known.levels if known else frozenset()),
            call.fields | (known.fields if known else frozenset()),
            is_open=call.is_open or (known is not None and known.is_open),
            place=known.place if known else call.place,
        )
    return events


def read_entries(text: str) -> dict[Key, Entry]:
    """The table.

    Raises:
        TableError: The text is not a table of entries, or not sorted.
    """
    try:
        table = _TABLE.validate_python(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise TableError(f"{TABLE.name}: {error}") from error
    keys = [(component, name) for component, entries in table.items() for name in entries]
    order = {component.key: number for number, component in enumerate(COMPONENTS)}
    in_order = sorted(keys, key=lambda key: (order.get(key[0], len(order)), key[1]))
    misplaced = next((key for key, wanted in zip(keys, in_order, strict=True) if key != wanted), None)
    if misplaced is not None:
        raise TableError(f"{TABLE.name} is not sorted by component and name, from {'.'.join(misplaced)} on")
    return {(component, name): entry for component, entries in table.items() for name, entry in entries.items()}


def differences(events: Mapping[Key, Event], entries: Mapping[Key, Entry]) -> Iterator[str]:
    """What to change in the table."""
    for key in sorted(events.keys() - entries.keys()):
        yield f"add an entry for {'.'.join(key)}, which {events[key].place} logs"
    for key in sorted(entries.keys() - events.keys()):
        yield f"remove the entry {'.'.join(key)}: nothing logs this event"
    for key in sorted(events.keys() & entries.keys()):
        if events[key].is_open and not entries[key].fields:
            yield f"name the `fields` of {'.'.join(key)}: {events[key].place} does not name them all"
        elif entries[key].fields and not events[key].is_open:
            yield f"remove `fields` from {'.'.join(key)}: {events[key].place} names them all"


def _section(
    component: Component, events: Mapping[Key, Event], entries: Mapping[Key, Entry], bound: Sequence[Bound]
) -> str:
    added = sorted({field for one in bound if one.component == component.key for field in one.fields})
    context = f"\n\nFields that it adds where they are known: {_code(added)}." if added else ""
    rows = "".join(_row(events[key], entries[key]) for key in sorted(events) if key[0] == component.key)
    return (
        f"\n## {component.title}\n\n{component.about}{context}\n\n"
        "| event | level | fields | meaning | what to do |\n|---|---|---|---|---|\n"
        f"{rows}"
    )


def _row(event: Event, entry: Entry) -> str:
    levels = ", ".join(level for level in LEVELS if level in event.levels)
    fields = _code(sorted({*event.fields, *entry.fields}))
    return f"| `{event.name}` | {levels} | {fields} | {_cell(entry.meaning)} | {_cell(entry.action)} |\n"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
