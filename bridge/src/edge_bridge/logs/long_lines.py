"""Lines of any length in bounded memory: the middle of a very long one is left out, and what remains is one valid line.

A task's log consists of JSON objects. Nearly all of a long one is a single string, a message or the text of an
exception, so the object stays valid without the middle of that string, and its level and time are kept.
"""

import codecs
import json
import re

MAX_LINE_BYTES = 16 << 20
"""A longer line is shortened, so that it does not fill the memory of the api-server."""

_HALF = MAX_LINE_BYTES // 2
_ESCAPE_BYTES = 6
_SEARCHED_BYTES = 1 << 16
_SHOWN_CHARS = 1 << 20
"""Of an object that is not valid without its middle."""
_PART_OF_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)\Z")
_FIRST_SURROGATE = re.compile(r"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})\Z")
_SECOND_SURROGATE = re.compile(rb"\\u[dD][c-fC-F]")
_FIELD = re.compile(r'"(timestamp|level|logger)": ?"([^"\\]{1,100})"')


class LineBuffer:
    """The bytes of a line that has not ended yet: all of them, or its first and its last ones."""

    def __init__(self) -> None:
        self._clear()

    def __bool__(self) -> bool:
        return bool(self._head)

    def add(self, data: bytes) -> None:
        """Append bytes that contain no line end."""
        room = _HALF - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * _HALF:
            self._trim()

    def take(self) -> str:
        """The line, shortened if it is too long. The buffer is empty afterwards."""
        self._trim()
        head, tail, left_out = self._head, self._tail, self._left_out
        self._clear()
        return _shortened(head, tail, left_out) if left_out else (head + tail).decode(errors="replace")

    def _clear(self) -> None:
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0

    def _trim(self) -> None:
        surplus = len(self._tail) - _HALF
        if surplus > 0:
            self._left_out += surplus
            del self._tail[:surplus]


def _shortened(head: bytearray, tail: bytearray, left_out: int) -> str:
    start = _first_whole_letter(tail)
    line = f"{_whole_letters(head)} [{left_out + start} bytes left out] {tail[start:].decode(errors='replace')}"
    return line if not line.startswith("{") or _is_object(line) else _substitute(line)


def _whole_letters(head: bytearray) -> str:
    """The text without a letter or an escape of JSON that the cut has gone through."""
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(head)
    for part in (_PART_OF_ESCAPE, _FIRST_SURROGATE):
        if found := part.search(text, max(0, len(text) - _SEARCHED_BYTES)):
            text = text[: found.start(1)]
    return text


def _first_whole_letter(tail: bytearray) -> int:
    """Where the first letter or escape begins that the cut has not gone through."""
    for start in range(_ESCAPE_BYTES, min(len(tail), _SEARCHED_BYTES)):
        before = tail[start - _ESCAPE_BYTES : start]
        if tail[start] == ord("\\"):
            if not before.endswith(b"\\") and not _SECOND_SURROGATE.match(tail, start):
                return start
        elif b"\\" not in before and tail[start] & 0xC0 != 0x80:
            return start
    return len(tail)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _substitute(line: str) -> str:
    """An object that shows the beginning of one that is not valid without its middle, with its level and time."""
    fields = dict(_FIELD.findall(line[:_SHOWN_CHARS]) + _FIELD.findall(line[-_SHOWN_CHARS:]))
    event = f"{line[:_SHOWN_CHARS]} [a record of more than {MAX_LINE_BYTES >> 20} MiB, shortened]"
    return json.dumps({**fields, "event": event}, ensure_ascii=False)
