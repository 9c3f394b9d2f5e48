"""A worker as its calls need it: who it is, and its settings now. Computed once for each change, not for each call."""

from dataclasses import dataclass

from edge_broker.subjects import queue_token
from edge_relay.desired.state import DesiredState
from edge_schemas.admin.desired import WORKER_PREFIX
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings


@dataclass(frozen=True, slots=True)
class Principal:
    """The worker that a credential belongs to, as it was when the call arrived.

    Attributes:
        settings: Its settings now: those of its enrolment, changed by what operators have set.
        queues: Those that the worker serves, as tokens.
        active_queues: Those of them from which it may get jobs now: none while it is not available.
        agent_key_hash: Of the value that the calling agent keeps in memory; None if the call has none.
    """

    worker: str
    site: str
    team: str | None
    settings: WorkerSettings
    secret_hash: str
    queues: tuple[str, ...]
    active_queues: tuple[str, ...]
    agent_key_hash: str | None = None


class Principals:
    """The workers that have called since their settings were last changed."""

    def __init__(self, desired: DesiredState) -> None:
        self._desired = desired
        self._known: dict[str, tuple[WorkerAccess, Principal]] = {}
        desired.on_change(self._changed)

    def of(self, access: WorkerAccess) -> Principal:
        """The worker with this credential."""
        known, principal = self._known.get(access.worker, (None, None))
        if known is not access or principal is None:
            settings = self._desired.settings(access)
            queues = tuple(dict.fromkeys(queue_token(access.team, queue) for queue in settings.queues))
            active = self._desired.active_queues(access.team, settings)
            principal = Principal(access.worker, access.site, access.team, settings, access.secret_hash, queues, active)
            self._known[access.worker] = access, principal
        return principal

    def forget(self, worker: str) -> None:
        """The worker was removed."""
        self._known.pop(worker, None)

    def _changed(self, key: str) -> None:
        """Compute the settings of the workers concerned again, when they are needed."""
        if key.startswith(WORKER_PREFIX):
            self._known.pop(key.removeprefix(WORKER_PREFIX), None)
        else:
            self._known.clear()
