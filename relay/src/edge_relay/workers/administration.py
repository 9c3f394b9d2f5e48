"""What operators do with workers: create tokens, list workers. Each change is audited."""

import asyncio
from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators import Operator
from edge_relay.shielded import run_to_completion
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.workers.summary import summary
from edge_schemas.admin.access import TOKEN_ID_CHARS
from edge_schemas.admin.audit import TargetKind
from edge_schemas.wire.workers import (
    EnrollToken,
    EnrollTokenRequest,
    WorkerAccess,
    WorkerList,
    WorkerSummary,
    hash_secret,
)

_READS_AT_ONCE = 32


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

    async def list(self) -> WorkerList:
        """All workers that ever enrolled, with the content of their last poll."""
        limit = asyncio.Semaphore(_READS_AT_ONCE)

        async def summarise(access: WorkerAccess) -> WorkerSummary:
            async with limit:
                entry = await self._entries.get(access.worker)
                return summary(access, self._credentials.settings(access), entry, datetime.now(UTC))

        workers = sorted(self._credentials.workers(), key=lambda access: access.worker)
        return WorkerList(workers=tuple(await asyncio.gather(*map(summarise, workers))))
