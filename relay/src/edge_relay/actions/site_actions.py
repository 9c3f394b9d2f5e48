"""Actions on sites: on all their workers, also on those that enrol later."""

from datetime import UTC, datetime
from functools import partial

from edge_relay.actions.bulk import act_on_all
from edge_relay.actions.changes import changed, describe, with_order
from edge_relay.actions.order import Order, Target, check_end
from edge_relay.desired.state import DesiredState
from edge_relay.desired.store import DesiredStore
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.operators.operator import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin.actions import ActionResult, Resume, SiteActionRequest
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.desired import DesiredSite
from edge_schemas.wire.errors import EdgeError, ErrorCode


class SiteActions:
    """What operators do to sites."""

    def __init__(self, credentials: Credentials, desired: DesiredState, store: DesiredStore) -> None:
        self._credentials = credentials
        self._desired = desired
        self._store = store

    async def act(self, request: SiteActionRequest, operator: Operator) -> ActionResult:
        """Do an action to all its sites; it goes on although the caller leaves.

        Raises:
            EdgeError: `forbidden`: the operator is limited to some queues; `invalid_request`.
        """
        action = request.action
        if operator.scope.queues is not None:
            raise EdgeError(ErrorCode.FORBIDDEN, "a site has workers of queues that are outside your scope")
        order = Order(operator, request.reason, datetime.now(UTC), request.dry_run)
        if not isinstance(action, Resume):
            check_end(action.until, order.at)
        known = {access.site for access in self._credentials.workers()}

        async def act(site: str) -> bool:
            # A site exists by its workers; one that was paused before its first worker enrolled can be resumed.
            is_known = site in known or self._desired.site(site) != DesiredSite()
            if not is_known or not operator.scope.has_site(site):
                raise EdgeError(ErrorCode.NOT_FOUND, f"no worker has enrolled at a site {site}")
            change = partial(_with_order, request, order)
            before = self._desired.site(site)
            if order.dry_run:
                return bool(changed(before, change(before)))
            told = partial(describe, order, action.do, Target(TargetKind.SITE, site, site=site))
            return bool(changed(*await self._store.change_site(site, change, told)))

        targets = [(site, site) for site in dict.fromkeys(request.sites)]
        return await run_to_completion(act_on_all(targets, act, dry_run=order.dry_run))


def _with_order(request: SiteActionRequest, order: Order, entry: DesiredSite) -> DesiredSite:
    return with_order(entry, request.action, order)
