"""What operators have set for queues, as the bucket `edge_desired` shows it."""

from collections.abc import Callable
from typing import Protocol

import structlog
from pydantic import ValidationError

from edge_broker.subjects import parse_queue_token
from edge_schemas.admin.desired import QUEUE_PREFIX, DesiredQueue

log = structlog.get_logger(__name__)


class QueueSettings(Protocol):
    """The rules of all queues; `Queues`."""

    def set_desired(self, queue: str, desired: DesiredQueue | None) -> None:
        """Operators have set this for a queue."""


class DesiredQueues:
    """Passes on what is set for the queues of one team.

    Args:
        on_change: Called after each change.
    """

    def __init__(self, queues: QueueSettings, team: str | None, on_change: Callable[[], None]) -> None:
        self._queues = queues
        self._team = team
        self._on_change = on_change

    def apply(self, key: str, value: bytes | None) -> None:
        """An entry of the bucket; those of workers, sites and other teams are ignored."""
        if not key.startswith(QUEUE_PREFIX):
            return
        try:
            team, queue = parse_queue_token(key.removeprefix(QUEUE_PREFIX))
            desired = None if value is None else DesiredQueue.model_validate_json(value)
        except (ValidationError, ValueError) as error:
            log.warning("queue_settings_unreadable", key=key, error=type(error).__name__)
            return
        if team == self._team:
            self._queues.set_desired(queue, desired)
            log.info("queue_settings_changed", queue=queue, version=0 if desired is None else desired.version)
            self._on_change()
