"""What a command prints, as `edge-relay submit` shows it: it comes from a machine that others control."""

import io
import json
import sys
from typing import cast

import pytest

from edge_relay.cli.submit import follow
from edge_relay.cli.submit.calls import ProducerCalls
from edge_relay.cli.submit.follow import Follower
from edge_schemas.producers.submissions import JobStatus
from support.relay.producers import ended_status

CLEAR = "\x1b[2J\x1b]0;title\x07\u202e"


class Stream(io.TextIOWrapper):
    """Standard output or standard error: a terminal, or a file."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        self.flush()
        return self.raw_bytes.getvalue().decode(self.encoding)


class Calls:
    """A job that has ended, and its log in parts."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = list(parts)

    def status(self, _: str, *, wait_s: float = 0.0) -> JobStatus:  # as the real one
        return ended_status()

    def log(self, _job: str, _offset: int, *, wait_s: float = 0.0) -> bytes:  # as the real one
        return self._parts.pop(0) if self._parts else b""


def shown(
    monkeypatch: pytest.MonkeyPatch, *parts: bytes, out: Stream | None = None, err: Stream | None = None
) -> tuple[str, str]:
    """What is printed to standard output and to standard error."""
    out, err = out or Stream(terminal=False), err or Stream(terminal=False)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    Follower(cast("ProducerCalls", Calls(*parts)), "job").until_ended()
    return out.text, err.text


def line(event: object, logger: str = "task.stdout") -> bytes:
    return json.dumps({"event": event, "logger": logger}).encode() + b"\n"


@pytest.mark.parametrize("terminal", ["stdout", "stderr"])
def test_no_terminal_receives_control_characters(monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    """Also where the other stream goes to a file, which gets what the command has printed."""
    out, err = Stream(terminal=terminal == "stdout"), Stream(terminal=terminal == "stderr")
    found = shown(monkeypatch, line(CLEAR), line(CLEAR, "task.stderr"), out=out, err=err)
    on_terminal, in_file = found if terminal == "stdout" else found[::-1]
    assert on_terminal == "?[2J?]0;title??\n"
    assert in_file == f"{CLEAR}\n"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"event": "half \\ud800", "logger": "task.stdout"}\n', "half \\ud800\n"),
        (b'{"event": ' + b"[" * 50_000 + b"\n", '{"event": ' + "[" * 50_000 + "\n"),
        (b'{"event": ' + b"9" * 5000 + b"}\n", '{"event": ' + "9" * 5000 + "}\n"),
        (b"\xff no JSON\n[1]\n1\n{}\n", "\ufffd no JSON\n[1]\n1\n{}\n"),
    ],
    ids=["half a character", "deep", "a long number", "no record"],
)
def test_odd_lines_are_printed(monkeypatch: pytest.MonkeyPatch, data: bytes, text: str) -> None:
    assert shown(monkeypatch, data) == (text, "")


def test_a_stream_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream(terminal=False, encoding="ascii")
    assert shown(monkeypatch, line("Grüße"), out=out) == ("Gr\\xfc\\xdfe\n", "")


def test_a_line_without_an_end_is_printed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept as a whole, however long it is."""
    monkeypatch.setattr(follow, "_LONGEST_LINE_BYTES", 10)
    assert shown(monkeypatch, b"12345678", b"9abc", b"def", b"\nx") == ("123456789abc\ndef\nx\n", "")
