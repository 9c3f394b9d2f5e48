"""The workers of a queue as plain facts: from their credentials, their last polls and what operators have set.

The only module here that knows where the facts about workers come from.
"""

import asyncio

from pydantic import ValidationError

from edge_relay.desired.state import DesiredState
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet import Fleet
from edge_relay.why.unfinished_jobs import UnfinishedJobs
from edge_schemas.admin.access import AccessScope
from edge_schemas.why.facts import ServingWorker
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerAccess, WorkerState

PARSED_AT_ONCE = 100


class ServingWorkers:
    """The facts about the workers of a queue, from memory. Entries are kept as they come, and parsed for an answer."""

    def __init__(self, fleet: Fleet, credentials: Credentials, desired: DesiredState, jobs: UnfinishedJobs) -> None:
        self._fleet = fleet
        self._credentials = credentials
        self._desired = desired
        self._jobs = jobs
        self._entries: dict[str, bytes] = {}

    def entry_changed(self, worker: str, value: bytes) -> None:
        """Store the entry of a poll; see `Fleet.on_entry`."""
        self._entries[worker] = value

    async def of_queue(self, team: str | None, queue: str, scope: AccessScope) -> tuple[tuple[ServingWorker, ...], int]:
        """The workers that serve a queue and that a caller may see, and how many more there are."""
        found: list[ServingWorker] = []
        hidden = 0
        await self._fleet.prepare()
        for access in self._credentials.workers():
            if access.revoked_at is not None or access.team != team or queue not in self._queues(access):
                continue
            if not scope.has_site(access.site):
                hidden += 1
                continue
            found.append(self._facts(access))
            if len(found) % PARSED_AT_ONCE == 0:
                await asyncio.sleep(0)  # polls do not wait for many workers
        return tuple(found), hidden

    def serve(self, queue: str, scope: AccessScope) -> bool:
        """Whether a worker that a caller may see serves a queue; always if the caller is not limited to sites."""
        return scope.sites is None or any(
            access.revoked_at is None and scope.has_site(access.site) and queue in self._queues(access)
            for access in self._credentials.workers()
        )

    def is_at(self, worker: str, scope: AccessScope) -> bool:
        """Whether a worker is, or was before it was revoked, at a site that a caller may see."""
        return scope.sites is None or any(
            access.worker == worker and scope.has_site(access.site) for access in self._credentials.workers()
        )

    def _queues(self, access: WorkerAccess) -> tuple[str, ...]:
        return self._desired.worker(access.worker).queues or access.settings.queues

    def _facts(self, access: WorkerAccess) -> ServingWorker:
        name = access.worker
        order = self._desired.order(name, access.site)
        entry = self._parse(name)
        if entry is None:
            return ServingWorker(
                name,
                access.site,
                WorkerState.NEVER_SEEN,
                None if order is None else order.order,
                order is not None and order.of_site,
            )
        return ServingWorker(
            name,
            access.site,
            self._fleet.state(access),
            None if order is None else order.order,
            order is not None and order.of_site,
            slots=entry.slots,
            free=entry.free,
            last_poll_at=entry.agent.last_poll_at,
            no_jobs_reason=entry.no_jobs_reason,
            conflict_since=None if entry.conflict is None else entry.conflict.since,
            airflow=entry.versions.airflow,
            auxiliary=entry.auxiliary,
            running=self._jobs.held_by(name),
            granted=frozenset(job.id for job in entry.jobs if job.phase is JobPhase.GRANTED),
        )

    def _parse(self, worker: str) -> WorkerEntry | None:
        value = self._entries.get(worker)
        if value is None:
            return None
        try:
            return WorkerEntry.model_validate_json(value)
        except ValidationError:
            return None  # the fleet has logged it
