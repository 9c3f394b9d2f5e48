"""A task's log on disk: small, whole at its end, and never a reason to fail."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_worker.task_host import log_file
from edge_worker.task_host.log_file import BestEffortOutput, CappedLog, read_dropped

KEEP = 256 * 1024


def _line(number: int) -> bytes:
    return json.dumps({"event": f"line {number} {'x' * 80}"}).encode() + b"\n"


def _on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_log_beyond_its_limit_loses_its_oldest_lines_and_keeps_its_offsets(tmp_path: Path) -> None:
    path = tmp_path / "task.log"
    written = b""
    largest = 0
    with CappedLog(path, KEEP) as log:
        for number in range(10_000):
            written += _line(number)
            log.write(_line(number))
            largest = max(largest, _on_disk(path)) if number % 100 == 0 else largest
    dropped = read_dropped(tmp_path)
    assert path.stat().st_size == len(written) > 3 * KEEP
    assert largest <= KEEP + 64 * 1024
    content = path.read_bytes()
    assert content[dropped:] == written[dropped:]
    assert written[dropped - 1 : dropped] == b"\n", "whole lines are dropped"
    assert len(written) - dropped >= KEEP // 2
    assert set(content[: dropped - 64 * 1024]) == {0}, "their room was given back"


def test_log_of_which_a_part_was_dropped_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "task.log"
    for _ in range(2):
        with CappedLog(path, KEEP) as log:
            for number in range(5_000):
                log.write(_line(number))
    assert path.read_bytes().endswith(_line(4_999))
    assert _on_disk(path) <= KEEP + 64 * 1024


def test_without_holes_the_log_ends_at_its_limit_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no holes here")

    monkeypatch.setattr(log_file, "_punch", refuse)
    path = tmp_path / "task.log"
    with CappedLog(path, KEEP) as log:
        for number in range(10_000):
            log.write(_line(number))
    assert read_dropped(tmp_path) == 0
    assert path.stat().st_size <= KEEP + 1024
    lines = path.read_bytes().splitlines()
    assert lines[1].startswith(b'{"event": "line 1 ')
    assert "bytes of this log were lost" in json.loads(lines[-1])["event"]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Sets how many bytes the disk still takes; None is any number."""
    room: int | None = None
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room is None:
            return write(descriptor, data)
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[:room])
        room -= written
        return written

    def fill(left: int | None) -> None:
        nonlocal room
        room = left

    monkeypatch.setattr("os.write", limited)
    return fill


def test_lines_that_a_full_disk_does_not_take_are_counted(tmp_path: Path, disk: Callable[[int | None], None]) -> None:
    path = tmp_path / "task.log"
    with CappedLog(path, KEEP) as log:
        log.write(_line(1))
        disk(20)
        assert log.write(_line(2)) == len(_line(2))
        log.write(_line(3))
        disk(None)
        log.write(_line(4))
    first, torn, confession, last = path.read_bytes().splitlines(keepends=True)
    assert (first, torn, last) == (_line(1), _line(2)[:20] + b"\n", _line(4))
    assert json.loads(confession)["event"].startswith(f"{len(_line(2)) + len(_line(3))} bytes of this log were lost")


def test_what_a_supervisor_says_never_fails_and_does_not_fill_the_disk(
    tmp_path: Path, disk: Callable[[int | None], None]
) -> None:
    path = tmp_path / "supervisor.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    output = BestEffortOutput(descriptor, 100)
    disk(0)
    assert output.write(b"lost\n") == 5
    disk(None)
    for _ in range(50):
        output.write(b"kept\n")
    os.close(descriptor)
    assert path.stat().st_size == 100
