"""JetStream's protocol is written in `edge_broker` only; the import contract alone would not notice a literal."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = (
    "schemas/src/edge_schemas",
    "schemas/src/edge_service",
    "relay/src/edge_relay",
    "bridge/src/edge_bridge",
    "edge_worker/src/edge_worker",
)
PROTOCOL = {
    "subjects of the API and of acknowledgements": re.compile(r"\$JS\b|\$KV\b|_INBOX"),
    "replies to a delivery": re.compile(r"\+(ACK|TERM|WPI|NXT)\b|-NAK\b"),
    "headers of the server": re.compile(r"\bNats-[A-Z]|\bKV-Operation\b|[\"']Status[\"']"),
    "calls of the API": re.compile(r"[\"'](STREAM|CONSUMER|DIRECT)\.[A-Z]"),
    "fields of requests": re.compile(r"\b(last|next|multi_last)_by_subj\b"),
    # As text: an HTTP status is a number everywhere.
    "statuses of the broker": re.compile(r"[\"'](100|204|400|404|408|409|503)[\"']"),
    "err_codes of JetStream": re.compile(r"\b10(0[0-9][1-9]|0[1-9]0|1[0-9]{2})\b|\berr_code\b"),
}


def sources() -> list[Path]:
    return [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("what", PROTOCOL)
def test_the_protocol_of_jetstream_is_written_in_one_package(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if PROTOCOL[what].search(line)
    ]
    assert not found, f"{what} outside edge_broker"


def test_statuses_of_pulls_have_names_where_they_are_judged() -> None:
    """A number would pass as an HTTP status; where pulls are accounted for there is none."""
    status = re.compile(r"\b(100|404|408|409|503)\b")
    assert not [
        path.name for path in (ROOT / "relay/src/edge_relay/dispatch").glob("*.py") if status.search(path.read_text())
    ]


def test_the_patterns_find_the_protocol_where_it_is() -> None:
    text = "\n".join(path.read_text() for path in sorted((ROOT / "schemas/src/edge_broker").rglob("*.py")))
    assert [what for what, pattern in PROTOCOL.items() if not pattern.search(text)] == []
