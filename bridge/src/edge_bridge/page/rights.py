"""What an Airflow user may do on the page, by rights that Airflow's auth managers already know.

| role here | right in Airflow | who has it by default (SimpleAuth, FAB) |
|---|---|---|
| viewer | the view of jobs | viewer, user, op, admin |
| operator | change of pools | op, admin |
| admin | SimpleAuth: the role admin; others: change of the custom view `Roles` | admin |
"""

from typing import TYPE_CHECKING, Any

import structlog

from edge_schemas.admin.access import Role

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

log = structlog.get_logger(__name__)

ROLES_VIEW = "Roles"


def role_of(manager: "BaseAuthManager[Any]", user: Any) -> Role | None:
    """The highest role that the user's rights amount to; None if they may not see the page.

    May read Airflow's database: call it in a thread. An auth manager that fails grants nothing.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView

    try:
        if not manager.is_authorized_view(access_view=AccessView.JOBS, user=user):
            return None
        if not manager.is_authorized_pool(method="PUT", user=user):
            return Role.VIEWER
        return Role.ADMIN if _may_administer(manager, user) else Role.OPERATOR
    except Exception as error:  # noqa: BLE001  # a foreign auth manager may raise anything; the user gets no right by it
        log.warning("page_rights_unknown", auth_manager=type(manager).__name__, error=type(error).__name__)
        return None


def _may_administer(manager: "BaseAuthManager[Any]", user: Any) -> bool:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    if isinstance(manager, SimpleAuthManager):
        # It has no right that only admins have: every custom view is open to viewers.
        return isinstance(user, SimpleAuthManagerUser) and (user.role or "").upper() == "ADMIN"
    return bool(manager.is_authorized_custom_view(method="PUT", resource_name=ROLES_VIEW, user=user))
