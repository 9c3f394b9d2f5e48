"""The calling producer: an access token becomes a caller of the producers' API, on the workers' listener."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_relay.http.bearer import bearer
from edge_relay.http.bodies import explain
from edge_relay.http.callers import Callers
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.operators.operator import Operator
from edge_relay.limits.addresses import group
from edge_relay.limits.rates import RateLimit
from edge_schemas.admin.access import SignedInBy
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import QueueName
from edge_schemas.wire.workers import hash_secret

SCANNED_PER_CALL = 1000
"""A list costs a call for so many jobs that it looks through."""
_QUEUE: TypeAdapter[str] = TypeAdapter(QueueName)


class ProducerCallers:
    """Authenticates producers, and operators who do the same.

    Args:
        callers: Knows addresses and connections.
        credentials: The access tokens.
        rate: Calls of one producer in a second.
    """

    def __init__(self, callers: Callers, credentials: Credentials, rate: RateLimit) -> None:
        self._callers = callers
        self._credentials = credentials
        self._rate = rate

    async def producer(self, request: web.Request, *, change: bool) -> Operator:
        """The caller; every handler of a producer's call begins with it.

        Args:
            request: The call.
            change: Whether it submits or cancels, which a viewer may not.

        Raises:
            EdgeError: `unauthenticated`, `credential_revoked`, `rate_limited`, `forbidden`.
            BrokerUnavailable: The token is unknown here, and the broker can't be asked.
        """
        address = self._callers.address(request)
        entry = await self._credentials.operators.by_secret(bearer(request), group(address))
        self._callers.recognize(request, owner_of(entry.name), is_producer=True)
        structlog.contextvars.bind_contextvars(producer=entry.name)
        self._rate.take(entry.name)
        if entry.for_airflow:
            raise EdgeError(ErrorCode.FORBIDDEN, "this token is for Airflow's api-server")
        if entry.scope.sites is not None:
            text = f"{entry.name} is limited to some sites, and a job that waits belongs to none: use another token"
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        if change and not entry.role.may_submit:
            text = f"this needs the role producer, operator or admin; {entry.name} has the role {entry.role}"
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        return Operator(entry.name, entry.role, entry.scope, SignedInBy.TOKEN, address, entry.expires_at)

    def check_again(self, request: web.Request) -> Callable[[], object]:
        """Refuses a call that has waited, once its token was revoked or has expired; errors as for `producer`."""
        return partial(self._credentials.operators.current, hash_secret(bearer(request)))

    async def of_queue(self, request: web.Request, *, change: bool) -> tuple[Operator, str]:
        """The caller, and the queue that the path names; errors as for `producer`.

        Raises:
            EdgeError: `invalid_request`: no queue can have this name. `forbidden`: the queue is not the caller's.
        """
        producer = await self.producer(request, change=change)
        try:
            queue = _QUEUE.validate_python(request.match_info["queue"])
        except ValidationError as error:
            raise EdgeError(ErrorCode.INVALID_REQUEST, f"the path must name a queue: {explain(error)}") from None
        if not producer.scope.has_queue(queue):
            raise EdgeError(ErrorCode.FORBIDDEN, f"{producer.name} has no access to this queue")
        return producer, queue

    def scanned(self, producer: Operator, jobs: int) -> None:
        """Count the jobs that a call looks through."""
        self._rate.charge(producer.name, jobs / SCANNED_PER_CALL)


def owner_of(producer: str) -> str:
    """A producer in the sums of limits. No worker has such a name."""
    return f"producer {producer}"


def patience_s(producer: Operator, wait_s: float) -> float:
    """How long a call may wait: not longer than its token is valid."""
    if producer.expires_at is None:
        return wait_s
    return max(0.0, min(wait_s, (producer.expires_at - datetime.now(UTC)).total_seconds()))
