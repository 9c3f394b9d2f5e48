"""Policies and accesses as operators see them, read from NATS. A relay may not write them."""

from datetime import UTC, datetime

from edge_broker.connection.broker import Broker
from edge_broker.policies.access_store import AccessStore, days_back
from edge_broker.policies.policy_store import PolicyStore
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.policies import AccessPage, AccessQuery, PolicyPage, PolicyRow
from edge_schemas.policies.accesses import add_all
from edge_schemas.policies.policy import PolicyTarget
from edge_schemas.wire.errors import EdgeError, ErrorCode


class PolicyViews:
    """Reads what is asked for; nothing is kept."""

    def __init__(self, broker: Broker) -> None:
        self._policies = PolicyStore(broker)
        self._accesses = AccessStore(broker)

    async def policies(self, scope: AccessScope) -> PolicyPage:
        """All policies in the caller's scope.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        as_of = datetime.now(UTC)
        rows = [await self._row(target) for target in await self._policies.targets() if _is_visible(target, scope)]
        return PolicyPage(items=tuple(row for row in rows if row is not None), as_of=as_of)

    async def accesses(self, query: AccessQuery, scope: AccessScope) -> AccessPage:
        """What the jobs of a queue or a site used.

        Raises:
            EdgeError: `forbidden`: it is outside the caller's scope.
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        if not _is_visible(query.target, scope):
            raise EdgeError(ErrorCode.FORBIDDEN, f"{query.target} is outside your scope")
        now = datetime.now(UTC)
        since = days_back(now, query.days)
        accesses, others = add_all(await self._accesses.days(query.target, since=since))
        return AccessPage(items=tuple(accesses), others=tuple(others), since=since, as_of=now)

    async def _row(self, target: PolicyTarget) -> PolicyRow | None:
        """None for a policy that was removed."""
        stored = await self._policies.get(target)
        if stored.policy is None and not stored.is_unreadable:
            return None
        return PolicyRow(kind=target.kind, name=target.name, policy=stored.policy)


def _is_visible(target: PolicyTarget, scope: AccessScope) -> bool:
    return scope.has_queue(target.name) if target.kind == "queue" else scope.has_site(target.name)
