"""The policies in the keeper's memory."""

from collections.abc import Iterable

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.policies.policy_store import PolicyUnreadable, parse_policy, target_of
from edge_broker.subjects import POLICIES_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.policies.policy import Policy, PolicyMode, PolicyTarget
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

_RETRY_AFTER_S = 2.0


class PolicyView:
    """Follows the bucket `edge_policies`. Run `run()` in a task group."""

    def __init__(self, broker: Broker) -> None:
        self._watched = WatchedBucket(broker, POLICIES_BUCKET, self._apply)
        self._policies: dict[PolicyTarget, Policy | None] = {}

    async def run(self) -> None:
        """Follow the bucket, forever."""
        await self._watched.run()

    @property
    def complete(self) -> bool:
        """Everything is known."""
        return self._watched.complete.is_set()

    @property
    def has_sites(self) -> bool:
        """A site has a policy that is not off, so the site of a worker matters."""
        return any(
            target.kind == "site" and (policy is None or policy.mode is not PolicyMode.OFF)
            for target, policy in self._policies.items()
        )

    def of(self, targets: Iterable[PolicyTarget]) -> list[tuple[PolicyTarget, Policy]]:
        """The policies of these targets that are not off.

        Raises:
            EdgeError: `gate_unavailable`: they are not known. No call may be answered without them.
        """
        if not self.complete:
            raise unknown("the policies are not known: the bucket edge_policies has not been read")
        found = []
        for target in targets:
            if target not in self._policies:
                continue
            if (policy := self._policies[target]) is None:
                raise unknown(f"this keeper can't read the policy of {target}: set it again, or update the keeper")
            if policy.mode is not PolicyMode.OFF:
                found.append((target, policy))
        return found

    def _apply(self, key: str, value: bytes | None) -> None:
        if (target := target_of(key)) is None:
            return
        if value is None:
            self._policies.pop(target, None)
            return
        try:
            self._policies[target] = parse_policy(target, value)
        except PolicyUnreadable as error:
            log.warning("policy_unreadable", target=str(target), error=str(error))
            self._policies[target] = None


def unknown(reason: str) -> EdgeError:
    """The refusal of a call that can't be judged now: its worker repeats it."""
    return EdgeError(ErrorCode.GATE_UNAVAILABLE, reason, retry_after_s=_RETRY_AFTER_S)
