"""The remote log store that Airflow would use without this package: it keeps the logs of all other tasks."""

import os
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Protocol, cast

import structlog

if TYPE_CHECKING:
    from airflow.configuration import AirflowConfigParser

log = structlog.get_logger(__name__)

Streams = tuple[list[str], list[Generator[str, None, None]]]
"""Messages for the head of the page, and streams of lines."""


class RemoteStore(Protocol):
    """A remote log store as Airflow knows them, `RemoteLogIO`. A `RemoteLogStreamIO` has a method `stream` too."""

    def upload(self, path: os.PathLike[str] | str, ti: object) -> None:
        """Store a local log file."""

    def read(self, relative_path: str, ti: object) -> tuple[Iterable[str], Iterable[str] | None]:
        """Messages for the head of the page, and texts."""


class _StreamingStore(RemoteStore, Protocol):
    def stream(self, relative_path: str, ti: object) -> tuple[Iterable[str], Iterable[Generator[str, None, None]]]:
        """Messages for the head of the page, and streams of lines."""


class Delegate:
    """Finds the store when it is first needed, and keeps its errors off the log page.

    Args:
        find: Returns the store or None.
    """

    def __init__(self, find: Callable[[], RemoteStore | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found = False
        self._store: RemoteStore | None = None

    @property
    def store(self) -> RemoteStore | None:
        """The store, or None if there is none."""
        with self._lock:
            if not self._found:
                self._store = self._find()
                self._found = True
            return self._store

    def stream(self, relative_path: str, ti: object) -> Streams:
        """The store's logs of a try; it may have either of Airflow's two interfaces."""
        try:
            return self._ask(relative_path, ti)
        except Exception as error:  # noqa: BLE001  # the page must show the rest, whatever a foreign store raises
            log.warning("remote_log_store_failed", path=relative_path, error=type(error).__name__)
            return [f"The remote log store failed: {type(error).__name__}; see the api-server's log"], []

    def _ask(self, relative_path: str, ti: object) -> Streams:
        store = self.store
        if store is None:
            return [], []
        if hasattr(store, "stream"):
            messages, streams = cast("_StreamingStore", store).stream(relative_path, ti)
            return list(messages), list(streams or [])
        messages, texts = store.read(relative_path, ti)
        return list(messages), [_as_stream(text.splitlines()) for text in texts or []]


def _as_stream(lines: Iterable[str]) -> Generator[str, None, None]:
    yield from lines


def airflows_own_store() -> RemoteStore | None:
    """The store that Airflow finds by `[logging] remote_logging` and `remote_base_log_folder` without us."""
    from airflow._shared.logging.factory import DEFAULT_LOGGING_CONFIG_PATH, resolve_remote_task_log
    from airflow._shared.module_loading import import_string
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    class _WithoutUs:
        """The configuration with Airflow's default logging module."""

        def get(self, section: str, key: str, **options: object) -> str | None:
            if (section, key) == ("logging", "logging_config_class"):
                return DEFAULT_LOGGING_CONFIG_PATH
            return conf.get(section, key, **options)

        def getboolean(self, section: str, key: str, **options: object) -> bool:
            return conf.getboolean(section, key, **options)

    without_us = cast("AirflowConfigParser", _WithoutUs())
    # Airflow's class has no annotations.
    providers: Callable[[], ProvidersManager] = ProvidersManager
    store, _ = resolve_remote_task_log(conf=without_us, providers_manager=providers(), import_string=import_string)
    return cast("RemoteStore | None", store)
