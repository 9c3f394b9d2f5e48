"""Reading EDGE_LOGS of a real NATS as the api-server's threads do."""

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_bridge.logs.found import PATIENCE_S, LogsUnavailable
from edge_bridge.logs.store import CACHED_LOG_BYTES, StoredLogs
from edge_bridge.logs.text import lines
from edge_bridge.settings import SettingsError
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import READER
from edge_broker.subjects import log_subject
from support.nats.server import PASSWORDS
from support.nats.sync_nats import Writer, log_server


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with log_server(tmp_path) as running:
        yield running.url


@pytest.fixture
def store(url: str) -> Iterator[StoredLogs]:
    found = StoredLogs(lambda: BrokerSettings((url,), READER, PASSWORDS[READER]))
    yield found
    found.close()


def test_a_log_grows_while_it_is_read(url: str, store: StoredLogs) -> None:
    ti, job = str(uuid.uuid4()), str(uuid.uuid4())
    assert store.open((ti, 1)) is None
    with Writer(url) as writer:
        writer.append(ti, 1, job, 0, b"one\nt")
        assert list(lines(store.open((ti, 1)) or (), complete=False)) == ["one"]
        writer.append(ti, 1, job, 5, b"wo\n")
        writer.append(ti, 2, str(uuid.uuid4()), 0, b"another try\n")
        assert list(lines(store.open((ti, 1)) or (), complete=False)) == ["one", "two"]


def test_a_page_reads_only_what_is_new(url: str, store: StoredLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    import edge_bridge.logs.reader as module

    cursors: list[int] = []
    original = module._read_chunks

    async def counting(broker: object, subjects: str, cursor: int) -> object:
        cursors.append(cursor)
        return await original(broker, subjects, cursor)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(module, "_read_chunks", counting)
    ti, job = str(uuid.uuid4()), str(uuid.uuid4())
    with Writer(url) as writer:
        last = [writer.append(ti, 1, job, i * 4, b"abc\n") for i in range(20)][-1]
    for _ in range(3):
        assert len(list(lines(store.open((ti, 1)) or (), complete=True))) == 20
    assert cursors == [0, last, last]


def test_a_log_larger_than_the_cache_is_shown_whole(url: str, store: StoredLogs) -> None:
    ti, job = str(uuid.uuid4()), str(uuid.uuid4())
    line = b"x" * 1023 + b"\n"
    part = line * 500
    parts = CACHED_LOG_BYTES // len(part) + 4
    with Writer(url) as writer:
        for number in range(parts):
            writer.append(ti, 1, job, number * len(part), part)
    for _ in range(2):
        shown = list(lines(store.open((ti, 1)) or (), complete=True))
        assert len(shown) == parts * 500
        assert set(shown) == {line.decode().rstrip()}


def test_a_log_that_is_removed_while_it_is_read_has_a_gap(url: str, store: StoredLogs) -> None:
    """To make room: what is gone is counted, and the rest is shown."""
    ti, job = str(uuid.uuid4()), str(uuid.uuid4())
    part = (b"x" * 1023 + b"\n") * 500
    parts = CACHED_LOG_BYTES // len(part) + 8
    with Writer(url) as writer:
        last = [writer.append(ti, 1, job, number * len(part), part) for number in range(parts)][-1]
        shown = lines(store.open((ti, 1)) or (), complete=True)
        first = next(shown)
        writer.purge(log_subject(ti, 1, job), before=last)
        rest = list(shown)
    assert first == "x" * 1023
    [gap] = [line for line in rest if not line.startswith("x")]
    match = re.fullmatch(r"\[(\d+) bytes of this log are no longer stored\]", gap)
    assert match is not None
    assert len(rest) - 1 + int(match[1]) // 1024 == parts * 500 - 1
    assert store.open((ti, 1)) is not None


def test_without_nats_a_page_waits_for_a_limited_time(tmp_path: Path) -> None:
    with log_server(tmp_path) as nats:
        store = StoredLogs(lambda: BrokerSettings((nats.url,), READER, PASSWORDS[READER]))
        ti, job = str(uuid.uuid4()), str(uuid.uuid4())
        with Writer(nats.url) as writer:
            writer.append(ti, 1, job, 0, b"one\n")
        assert store.open((ti, 1)) is not None
    began = time.monotonic()
    # What was read before is still shown; what was not can't be.
    assert list(lines(store.open((ti, 1)) or (), complete=True)) == ["one"]
    with pytest.raises(LogsUnavailable):
        store.open((str(uuid.uuid4()), 1))
    assert time.monotonic() - began < 2 * PATIENCE_S + 1
    store.close()


def test_a_missing_setting_is_told_and_may_be_restored() -> None:
    def settings() -> BrokerSettings:
        raise SettingsError("set reader_password")

    with pytest.raises(LogsUnavailable, match="reader_password"):
        StoredLogs(settings).open(("x", 1))
