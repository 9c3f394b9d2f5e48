"""Claims of the identity provider become a name, a role and a scope. No I/O."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from edge_relay.identity.operators.operator import Operator
from edge_relay.setting_groups.sign_in_settings import SignInSettings
from edge_schemas.admin.access import MAX_SCOPE_NAMES, AccessScope, Role, SignedInBy
from edge_schemas.wire.errors import EdgeError, ErrorCode

MAX_NAME_CHARS = 120
_EVERYTHING = "*"


def operator_from(claims: Mapping[str, Any], settings: SignInSettings, address: str) -> Operator:
    """The operator that verified claims name.

    Raises:
        EdgeError: `forbidden`: the claims give no role, or no sites or queues where these are demanded.
    """
    name = _name(claims, settings.oidc_name_claim)
    values = _texts(_claim(claims, settings.oidc_roles_claim))
    roles = [settings.oidc_roles[value] for value in values if value in settings.oidc_roles]
    if not roles:
        text = f"no value of the claim {settings.oidc_roles_claim} of {name} has a role here: see RELAY_OIDC_ROLES"
        raise EdgeError(ErrorCode.FORBIDDEN, text)
    try:
        scope = AccessScope(
            sites=_names(claims, settings.oidc_sites_claim, name),
            queues=_names(claims, settings.oidc_queues_claim, name),
        )
    except ValidationError:
        raise EdgeError(ErrorCode.FORBIDDEN, f"the claims of {name} name no valid sites or queues") from None
    return Operator(name, max(roles, key=tuple(Role).index), scope, SignedInBy.OIDC, address)


def lacks_claims(claims: Mapping[str, Any], settings: SignInSettings) -> bool:
    """Whether a claim is missing that the settings name."""
    named = (settings.oidc_name_claim, settings.oidc_roles_claim, settings.oidc_sites_claim, settings.oidc_queues_claim)
    return any(_claim(claims, name) is None for name in named if name is not None)


def _name(claims: Mapping[str, Any], claim: str) -> str:
    for value in (_claim(claims, claim), claims.get("sub")):
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value.strip()[:MAX_NAME_CHARS]
    raise EdgeError(ErrorCode.FORBIDDEN, f"the token names nobody: it has no claim {claim} and no sub")


def _names(claims: Mapping[str, Any], claim: str | None, name: str) -> tuple[str, ...] | None:
    """The sites or queues; None for all."""
    if claim is None:
        return None
    values = _texts(_claim(claims, claim))
    if _EVERYTHING in values:
        return None
    if not values or len(values) > MAX_SCOPE_NAMES:
        text = f"the claim {claim} of {name} must name 1 to {MAX_SCOPE_NAMES} of them, or *"
        raise EdgeError(ErrorCode.FORBIDDEN, text)
    return tuple(values)


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """A claim by its name; dots lead into nested claims."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> list[str]:
    """One text, or a list of them; a text with spaces is a list too, as in OAuth's `scope`."""
    if isinstance(value, str):
        return [value, *value.split()] if " " in value else [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
