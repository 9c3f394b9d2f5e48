"""The page of log events has every event of the source, with what people wrote about it."""

from pathlib import Path

import pytest

import log_events_page
from log_events_page import Entry, TableError, differences, merged, read_entries
from log_events_source import LogCall, SourceError, bound_fields, log_calls

MODULE = """
import logging

import structlog

log = structlog.get_logger(__name__)
LEVELS = {"quiet": 10, "loud": logging.INFO}


def one(error, failed, kind, **facts):
    log.warning("one_failed", error=str(error), **_what(kind))
    log.exception("one_died")
    log.log(10 if failed else 30, "one_repeated")
    log.log(LEVELS[kind], "one_served" if failed else "one_done", exc_info=True)
    level = logging.DEBUG if failed else WARNING
    log.log(level, "one_gone")
    log.info("one_noted", extra={"reason": "x"}, **facts)
    known = {"job": 1}
    known["queue"] = 2
    log.info("one_known", **known)
    with structlog.contextvars.bound_contextvars(request_id=1):
        pass


def _what(kind):
    if kind:
        return {"dag": 1, "task": 2}
    return {"kind": kind} if kind else {}
"""


def source(folder: Path, text: str, name: str = "edge_relay/sub/module.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


def calls(folder: Path, text: str) -> dict[str, LogCall]:
    return {call.name: call for call in log_calls([source(folder, text)])}


def test_levels_and_fields_are_read_from_the_calls(tmp_path: Path) -> None:
    found = calls(tmp_path, MODULE)
    assert {name: (set(call.levels), set(call.fields)) for name, call in found.items()} == {
        "one_failed": ({"warning"}, {"error", "dag", "task", "kind"}),
        "one_died": ({"error"}, {"exception"}),
        "one_repeated": ({"debug", "warning"}, set()),
        "one_served": ({"debug", "info"}, {"exception"}),
        "one_done": ({"debug", "info"}, {"exception"}),
        "one_gone": ({"debug", "warning"}, set()),
        "one_noted": ({"info"}, {"reason"}),
        "one_known": ({"info"}, {"job", "queue"}),
    }
    assert {name for name, call in found.items() if call.is_open} == {"one_noted"}
    assert {call.component for call in found.values()} == {"relay"}
    assert found["one_failed"].place == "edge_relay.sub.module:11"


def test_bound_fields_are_read(tmp_path: Path) -> None:
    assert [set(bound.fields) for bound in bound_fields([source(tmp_path, MODULE)])] == [{"request_id"}]


@pytest.mark.parametrize("call", ["log.info(event)", "log.log(level, 'one_done')"])
def test_an_event_whose_name_or_level_is_no_constant_is_an_error(tmp_path: Path, call: str) -> None:
    with pytest.raises(SourceError, match=r"edge_relay\.sub\.module:2: name and level of an event must be constants"):
        calls(tmp_path, f"def one(event, level):\n    {call}\n")


def test_a_module_of_no_component_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^edge_new: no component is set"):
        list(log_calls([source(tmp_path, "log.info('one_done')", "edge_new/__init__.py")]))


def test_source_and_table_must_go_together() -> None:
    events = merged(
        LogCall("relay", name, frozenset({"info"}), frozenset(), is_open=name == "open", place="edge_relay.a:1")
        for name in ("closed", "new", "open")
    )
    entry = Entry(meaning="m", action="a")
    entries = {("relay", name): entry for name in ("gone", "open")}
    entries["relay", "closed"] = entry.model_copy(update={"fields": ("x",)})
    assert list(differences(events, entries)) == [
        "add an entry for relay.new, which edge_relay.a:1 logs",
        "remove the entry relay.gone: nothing logs this event",
        "remove `fields` from relay.closed: edge_relay.a:1 names them all",
        "name the `fields` of relay.open: edge_relay.a:1 does not name them all",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[relay.b]\nmeaning='m'\naction='a'\n[relay.a]\nmeaning='m'\naction='a'\n", r"not sorted .* from relay\.b on"),
        ("[relay.b]\nmeaning='m'\n", "action"),
        ("[relay.b\n", r"log_events\.toml"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_entries(text)


def test_the_page_has_every_entry_once() -> None:
    page = log_events_page.page()
    entries = read_entries(log_events_page.TABLE.read_text(encoding="utf-8"))
    assert len([line for line in page.splitlines() if line.startswith("| `")]) == len(entries)


def test_meaning_and_action_are_sentences() -> None:
    entries = read_entries(log_events_page.TABLE.read_text(encoding="utf-8"))
    texts = [text for entry in entries.values() for text in (entry.meaning, entry.action)]
    assert [text for text in texts if text != text.strip() or "\n" in text or not text.endswith(".")] == []
