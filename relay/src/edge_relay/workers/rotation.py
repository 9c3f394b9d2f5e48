"""A worker registers its next secret."""

import structlog

from edge_relay.identity.credentials import Credentials
from edge_relay.identity.principals import Principal
from edge_relay.identity.rotation import SecretRotation
from edge_relay.shielded import run_to_completion
from edge_schemas.wire.workers import SecretRequest

log = structlog.get_logger(__name__)


class WorkerRotation:
    """What a worker does to rotate its secret."""

    def __init__(self, rotation: SecretRotation, credentials: Credentials) -> None:
        self._rotation = rotation
        self._credentials = credentials

    async def register(self, worker: Principal, request: SecretRequest) -> None:
        """Store the hash of the next secret; the current one stays valid until the next one is used.

        Raises:
            EdgeError: See `SecretRotation.register`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """

        async def register() -> None:
            await self._rotation.register(worker.secret_hash, request.secret_hash, request.rotation)
            await self._credentials.announce(worker.secret_hash)
            log.info("worker_secret_registered", worker=worker.worker, rotation=request.rotation)

        await run_to_completion(register())
