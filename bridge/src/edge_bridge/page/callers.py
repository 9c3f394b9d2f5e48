"""Who calls the page: a user of Airflow, found by Airflow's own dependencies, with the role that they have here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from edge_bridge.page.rights import role_of
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode

READS = frozenset({"GET", "HEAD"})
CSRF_VALUE = "airflow"
"""What the page sends as `CSRF_HEADER`: another site can't send the header at all without a permission of this one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of Airflow who may see the page.

    Attributes:
        name: Their name in Airflow, for the audit.
        role: The most that they may do.
    """

    name: str
    role: Role


async def find_caller(request: Request, user: GetUserDep) -> Caller:
    """The caller, who may make this request.

    Raises:
        HTTPException: From Airflow: nobody is signed in.
        EdgeError: `forbidden`.
    """
    role = await run_in_threadpool(role_of, get_auth_manager(), user)
    name = user.get_name()
    if role is None:
        raise EdgeError(ErrorCode.FORBIDDEN, f"{name} needs the right to view jobs in Airflow")
    if request.method not in READS:
        if not role.includes(Role.OPERATOR):
            raise EdgeError(
                ErrorCode.FORBIDDEN, f"{name} may read only: a change needs the right to edit pools in Airflow"
            )
        if why := csrf_refusal(request.headers, own_origins(request)):
            raise EdgeError(ErrorCode.FORBIDDEN, why)
    return Caller(name, role)


CallerDep = Annotated[Caller, Depends(find_caller)]


def own_origins(request: Request) -> frozenset[str]:
    """By which browsers know this api-server: as this request names it, and as the configuration does."""
    return frozenset({origin_of(str(request.base_url)), origin_of(airflow_url(request))})


def airflow_url(request: Request) -> str:
    """Of Airflow's UI, for links, without a trailing slash."""
    from airflow.configuration import conf

    configured = conf.get("api", "base_url", fallback="") or ""
    return (configured or f"{request.base_url.scheme}://{request.base_url.netloc}").rstrip("/")


def csrf_refusal(headers: Mapping[str, str], own_origins: frozenset[str]) -> str | None:
    """Why a change must be refused, because another site may have sent it with the user's cookie; or None.

    A browser says where a request comes from in one of two headers. A client that sends neither is no browser, and has
    no cookie of which another site could make use.

    Args:
        headers: Of the request.
        own_origins: Scheme, host and port by which browsers know this api-server.
    """
    if headers.get(routes.CSRF_HEADER) is None:
        return f"a change needs the header {routes.CSRF_HEADER}: {CSRF_VALUE}"
    site = headers.get("sec-fetch-site")
    if site is not None:
        return None if site == "same-origin" else "a change must come from a page of this Airflow"
    origin = headers.get("origin")
    if origin is not None and origin not in own_origins:
        return "a change must come from a page of this Airflow; check [api] base_url if it did"
    return None


def origin_of(url: str) -> str:
    """Scheme, host and port, as browsers write them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
