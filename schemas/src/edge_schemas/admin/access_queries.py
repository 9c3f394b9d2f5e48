"""Query parameters of the lists of tokens and of the audit."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from edge_schemas.admin.actions import SearchText
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.rows import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS
from edge_schemas.admin.view_queries import PageQuery
from edge_schemas.wire.base import Inbound
from edge_schemas.wire.ids import OptionalReason


class TokenQuery(PageQuery):
    """Which tokens a list shows."""


class RevokeQuery(Inbound):
    """Why a token is revoked; kept in the audit."""

    reason: OptionalReason = ""


class AuditQuery(Inbound):
    """Which events a page of the audit shows: those that match all that is given.

    Attributes:
        target: Its whole name or id.
        actor: The whole name.
        text: Part of action, target, site, queue, actor or reason.
        since: The oldest time.
        until: Before this time.
        cursor: `next` of the page before.
    """

    kind: TargetKind | None = None
    target: SearchText | None = None
    action: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")] | None = None
    actor: SearchText | None = None
    text: SearchText | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: Annotated[int, Field(ge=1, le=2**53)] | None = None
    limit: int = Field(default=DEFAULT_PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS)


class FlowQuery(Inbound):
    """Where the browser goes after the sign-in: a path of the relay."""

    after: str = Field(default="/ui/", max_length=500)
