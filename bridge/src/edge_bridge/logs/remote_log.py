"""Shows the logs of tasks at the edge in Airflow's own log view, live and finished, older tries too.

Airflow allows one remote log store, and this package takes its place (`log_config`): logs of all other tasks are left
to the store that would be configured otherwise. Nothing here raises, and no page waits longer than some two seconds: an
exception would fail the page, and without an answer Airflow would ask the worker's log server on port 8793, which is
not reachable at the edge. In all other processes the store does nothing until it is called.
"""

import glob
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_bridge.logs.delegate import Delegate, RemoteStore, Streams, airflows_own_store
from edge_bridge.logs.found import LogsUnavailable
from edge_bridge.logs.owner import LoggedTry, is_ours, possible_logs
from edge_bridge.logs.store import StoredLogs
from edge_bridge.logs.text import Chunk, lines
from edge_bridge.logs.trigger_logs import trigger_logs
from edge_schemas.wire.ids import worker_and_site

if TYPE_CHECKING:
    from edge_broker.connection.settings import BrokerSettings

LIVE_STATES = frozenset({"running", "deferred"})
FINISHED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""In these states Airflow reads no local file if it was given another log."""
ASKS_WORKER_STATES = FINISHED_STATES | {"up_for_retry", "up_for_reschedule"}
"""In these states Airflow asks the worker's log server if it has found no other log."""
STREAM = "stream EDGE_LOGS"
NOTHING_STORED = "Edge Relay has no log of this try: none was uploaded, or it is no longer kept"


class EdgeRemoteLogIO:
    """A `RemoteLogStreamIO`.

    Args:
        find_delegate: Returns the store for all other logs, or None; called once, when it is needed.
        logs: The logs of the edge; set by tests.
    """

    def __init__(
        self, find_delegate: Callable[[], RemoteStore | None] = airflows_own_store, logs: StoredLogs | None = None
    ) -> None:
        self._delegate = Delegate(find_delegate)
        self._logs = logs or StoredLogs(_reader_settings)

    @property
    def processors(self) -> tuple[object, ...]:
        """Those of the store for other logs: the logs of edge tasks are written elsewhere."""
        return tuple(getattr(self._delegate.store, "processors", None) or ())

    def upload(self, path: os.PathLike[str] | str, ti: object = None) -> None:
        """Upload a task's local log to the store for other logs, if there is one."""
        if self._delegate.store is not None:
            self._delegate.store.upload(path, ti)

    def read(self, relative_path: str, ti: LoggedTry) -> tuple[list[str], list[str] | None]:
        """The result of `stream` as texts, for callers without streaming."""
        messages, streams = self.stream(relative_path, ti)
        return messages, ["\n".join(stream) for stream in streams] or None

    def stream(self, relative_path: str, ti: LoggedTry) -> Streams:
        """Messages for the head of the page, and streams of lines."""
        messages, streams = self._from_edge(ti)
        if streams and ti.state in FINISHED_STATES:
            trigger_messages, trigger_streams = trigger_logs(relative_path)
            messages += trigger_messages
            streams += trigger_streams
        if not streams or _may_have_run_elsewhere_too(ti):
            more_messages, more_streams = self._delegate.stream(relative_path, ti)
            messages += more_messages
            streams += more_streams
        if is_ours(ti):
            if not streams and ti.state in ASKS_WORKER_STATES and not _has_local_log(relative_path):
                streams.append(_one_line(messages[0] if messages else NOTHING_STORED))
            if ti.state == "deferred":
                _hide_host(ti)
        return messages, streams

    def _from_edge(self, ti: LoggedTry) -> Streams:
        messages: list[str] = []
        streams: list[Generator[str, None, None]] = []
        try:
            found = [self._logs.open(key) for key in possible_logs(ti)]
            complete = ti.state not in LIVE_STATES
            streams = [_stream(chunks, complete=complete) for chunks in found if chunks is not None]
        except LogsUnavailable as error:
            messages.append(f"Edge Relay: {error}")
        if streams:
            messages.insert(0, source(ti))
        return messages, streams


def source(ti: LoggedTry) -> str:
    """Where a log comes from, for the head of the page: worker, site and queue, as far as Airflow knows them."""
    named = [f"queue {ti.queue!r}"]
    if ti.hostname:
        worker, site = worker_and_site(ti.hostname)
        named = [f"worker {worker}", *([f"site {site}"] if site else []), *named]
    return f"Edge Relay: {', '.join(named)} ({STREAM})"


def _stream(chunks: Iterator[Chunk], *, complete: bool) -> Generator[str, None, None]:
    failure: str | None = None

    def until_unavailable() -> Generator[Chunk, None, None]:
        nonlocal failure
        try:
            yield from chunks
        except LogsUnavailable as error:
            failure = str(error)

    yield from lines(until_unavailable(), complete=complete)
    if failure is not None:
        yield f"Edge Relay: the rest of this log can't be shown now: {failure}"


def _one_line(text: str) -> Generator[str, None, None]:
    yield text


def _may_have_run_elsewhere_too(ti: LoggedTry) -> bool:
    """The trigger of a deferred task logs in the centre."""
    return ti.state == "deferred" or getattr(ti, "next_method", None) is not None


def _has_local_log(relative_path: str) -> bool:
    """Whether there is a local file, which Airflow itself reads, for example from a time with another executor."""
    from airflow.configuration import conf

    path = Path(conf.get_mandatory_value("logging", "base_log_folder"), relative_path)
    return any(path.parent.glob(glob.escape(path.name) + "*"))


def _hide_host(ti: LoggedTry) -> None:
    """Keep Airflow from asking the log server of an edge machine: for a deferred task it does, whatever we return.

    The value is changed for this page only: it counts as loaded, not as changed, and is never written back.
    """
    from sqlalchemy import inspect
    from sqlalchemy.orm.attributes import set_committed_value

    if not getattr(ti, "triggerer_job", None) and inspect(ti, raiseerr=False) is not None:
        set_committed_value(ti, "hostname", "")


def _reader_settings() -> "BrokerSettings":
    from airflow.configuration import conf

    from edge_bridge.settings import broker_settings
    from edge_broker.permissions import READER

    return broker_settings(conf, READER)
