"""What operators do with workers: create enrolment tokens. Each change is audited."""

from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin.access import TOKEN_ID_CHARS
from edge_schemas.admin.audit import TargetKind
from edge_schemas.wire.workers import (
    EnrollToken,
    EnrollTokenRequest,
    hash_secret,
)


class WorkerAdministration:
    """Operators' access to enrolment tokens."""

    def __init__(self, store: EnrollmentStore, audit: Audit) -> None:
        self._store = store
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
