"""The bucket `edge_policies`: one entry for each queue and site that has a policy. No relay may write it."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.subjects import POLICIES_BUCKET
from edge_schemas.policies.policy import Policy, PolicyTarget
from edge_schemas.wire.ids import decode_name

_MARK_LIFE = timedelta(days=1)


class PolicyUnreadable(Exception):
    """An entry is of a later version or damaged. Set the policy again."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """What is stored for a queue or a site.

    Attributes:
        policy: None if there is none, or if it can't be read.
        revision: A change must name it.
        is_unreadable: There is one, of a later version or damaged.
    """

    policy: Policy | None
    revision: int
    is_unreadable: bool = False


class PolicyStore:
    """Reads and writes policies."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, POLICIES_BUCKET)

    async def get(self, target: PolicyTarget) -> StoredPolicy:
        """The policy of a queue or a site.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        stored = await self._bucket.get(target.key)
        if stored.value is None:
            return StoredPolicy(None, stored.revision)
        try:
            return StoredPolicy(parse_policy(target, stored.value), stored.revision)
        except PolicyUnreadable:
            return StoredPolicy(None, stored.revision, is_unreadable=True)

    async def targets(self) -> list[PolicyTarget]:
        """What has a policy, or had one until a day ago.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        found = (target_of(key) for key in await self._bucket.keys(">"))
        return sorted(target for target in found if target is not None)

    async def put(self, target: PolicyTarget, policy: Policy, *, revision: int) -> None:
        """Store a policy.

        Raises:
            RevisionConflict: It was changed since it was read.
            BrokerUnavailable: The outcome is unknown.
        """
        await self._bucket.put(target.key, policy.model_dump_json().encode(), revision=revision)

    async def remove(self, target: PolicyTarget, *, revision: int) -> None:
        """Remove a policy; raises as `put` does."""
        await self._bucket.delete(target.key, revision=revision, mark_life=_MARK_LIFE)


def parse_policy(target: PolicyTarget, value: bytes) -> Policy:
    """A stored policy.

    Raises:
        PolicyUnreadable: It can't be read.
    """
    try:
        return Policy.model_validate_json(value)
    except ValidationError as error:
        raise PolicyUnreadable(f"the policy of {target} can't be read: {error.error_count()} errors") from None


def target_of(key: str) -> PolicyTarget | None:
    """What a key of the bucket is about; None for keys of a later version."""
    kind, _, token = key.partition(".")
    try:
        name = decode_name(token)
    except ValueError:
        return None
    if kind == "queue":
        return PolicyTarget("queue", name)
    return PolicyTarget("site", name) if kind == "site" else None
