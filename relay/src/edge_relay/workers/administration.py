"""What operators do with workers: create tokens, revoke, resolve credential conflicts. Each change is audited."""

from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators import Operator
from edge_relay.shielded import run_to_completion
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.admin.access import TOKEN_ID_CHARS
from edge_schemas.admin.audit import TargetKind
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import (
    EnrollToken,
    EnrollTokenRequest,
    ResolveRequest,
    hash_secret,
)


class WorkerAdministration:
    """Operators' access to workers and enrolment tokens."""

    def __init__(self, store: EnrollmentStore, credentials: Credentials, entries: WorkerStore, audit: Audit) -> None:
        self._store = store
        self._credentials = credentials
        self._entries = entries
        self._audit = audit

    async def create_enroll_token(self, request: EnrollTokenRequest, *, operator: Operator) -> EnrollToken:
        """A new enrolment token. A repeat creates another token; the first one expires unused."""
        token = await run_to_completion(self._store.create_token(request, now=datetime.now(UTC)))
        queues = ", ".join(request.queues)
        await self._audit.record(
            "enroll-token-created",
            TargetKind.TOKEN,
            hash_secret(token.token)[:TOKEN_ID_CHARS],
            actor=operator.actor,
            site=request.site,
            facts={"queues": queues, "uses": request.uses},
        )
        return token

    async def revoke(self, worker: str, *, operator: Operator) -> None:
        """End a worker's credential. A repeat changes nothing.

        Raises:
            EdgeError: `not_found`.
        """
        await run_to_completion(self._revoke(worker, operator))

    async def resolve_conflict(self, worker: str, request: ResolveRequest, *, operator: Operator) -> None:
        """Decide which of two agents is the worker. A repeat changes nothing.

        Raises:
            EdgeError: `not_found`.
        """
        await self._require_worker(worker)
        if await run_to_completion(self._entries.resolve_conflict(worker, keep_newer=request.keep == "newer")):
            await self._audit.record(
                "conflict-resolved", TargetKind.WORKER, worker, actor=operator.actor, facts={"keep": request.keep}
            )

    async def _revoke(self, worker: str, operator: Operator) -> None:
        secret_hash = await self._require_worker(worker)
        await self._store.revoke(secret_hash, now=datetime.now(UTC))
        await self._credentials.announce(secret_hash)
        await self._audit.record("worker-revoked", TargetKind.WORKER, worker, actor=operator.actor)

    async def _require_worker(self, worker: str) -> str:
        """The hash of the worker's secret.

        Raises:
            EdgeError: `not_found`.
        """
        secret_hash = await self._store.secret_hash(worker)
        if secret_hash is None:
            raise EdgeError(
                ErrorCode.NOT_FOUND, f"there is no worker {worker}: 'edge-relay workers list' shows all names"
            )
        return secret_hash
