"""What operators see of policies and of what jobs used. They set policies at the centre, not through a relay."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edge_schemas.admin.rows import Page
from edge_schemas.policies.accesses import Access, AccessCounts
from edge_schemas.policies.policy import Policy, PolicyTarget
from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.ids import QueueName, SiteName

LIST_DAYS = 40
"""Older accesses have been removed."""


class PolicyQuery(Inbound):
    """The list of policies has no filters."""


class PolicyRow(Outbound):
    """A policy.

    Attributes:
        kind: What it is set for.
        name: Of the queue or the site.
        policy: None if this relay can't read it. Keepers of the same version can't either, and hold the calls.
    """

    kind: Literal["queue", "site"]
    name: str
    policy: Policy | None = None


class PolicyPage(Page):
    """All policies that the caller may see."""

    items: tuple[PolicyRow, ...]


class AccessQuery(Inbound):
    """Whose accesses a list shows: those of one queue or of one site.

    Attributes:
        days: The last days, today included.
    """

    queue: QueueName | None = None
    site: SiteName | None = None
    days: int = Field(default=30, ge=1, le=LIST_DAYS)

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.queue is None) == (self.site is None):
            raise PydanticCustomError("one_target", "give either queue or site")
        return self

    @property
    def target(self) -> PolicyTarget:
        """The queue or the site."""
        if self.queue is not None:
            return PolicyTarget("queue", self.queue)
        return PolicyTarget("site", self.site or "")


class AccessPage(Page):
    """What the jobs of a queue or a site used.

    Attributes:
        items: By kind and name.
        others: Calls that were counted without a name, by kind.
        since: The first day that is counted.
    """

    items: tuple[Access, ...]
    others: tuple[AccessCounts, ...] = ()
    since: Instant
