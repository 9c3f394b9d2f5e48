"""Actions on the credential of a worker: rotate it, and remove a worker that was revoked."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge_relay.desired.store import DesiredStore
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.rotation import SecretRotation
from edge_relay.shielded import run_to_completion
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.wire.errors import EdgeError, ErrorCode

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CredentialActions:
    """The actions. Each returns the part of the worker's state before and after; the same if nothing was changed."""

    enrollments: EnrollmentStore
    rotation: SecretRotation
    credentials: Credentials
    entries: WorkerStore
    desired: DesiredStore

    async def rotate(self, worker: str) -> tuple[Facts, Facts]:
        """Ask a worker for a new secret. While it has not made one, a repeat changes nothing.

        Raises:
            EdgeError: `not_found`, or `wrong_state`: the worker is revoked.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        return await run_to_completion(self._rotate(worker))

    async def remove(self, worker: str) -> tuple[Facts, Facts]:
        """Remove a revoked worker from all lists; its name becomes free, its credential stays refused.

        A repeat completes what was interrupted; afterwards the worker is not found.

        Raises:
            EdgeError: `not_found`, or `wrong_state`: the worker is not revoked.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        return await run_to_completion(self._remove(worker))

    async def _rotate(self, worker: str) -> tuple[Facts, Facts]:
        identity = await self._identity(worker)
        before, after = await self.rotation.request(identity)
        await self.credentials.announce(identity)
        return {"rotation": before.settings.rotation}, {"rotation": after.settings.rotation}

    async def _remove(self, worker: str) -> tuple[Facts, Facts]:
        """The name is freed last: until then a repeat finds the worker."""
        identity = await self._identity(worker)
        entry = await self.enrollments.remove(identity, now=datetime.now(UTC))
        await self.credentials.announce(identity)
        await self.rotation.forget(entry)
        await self.desired.forget_worker(worker)
        await self.entries.forget(worker)
        await self.enrollments.free_name(entry)
        return {"removed": False, "site": entry.site}, {"removed": True, "site": entry.site}

    async def _identity(self, worker: str) -> str:
        identity = await self.enrollments.secret_hash(worker)
        if identity is None:
            raise EdgeError(ErrorCode.NOT_FOUND, f"there is no worker {worker}")
        return identity
