"""The application that Airflow's api-server mounts at `/edge-relay`. No logic."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from edge_bridge.page import headers, paths
from edge_bridge.page.callers import CallerDep, airflow_url
from edge_bridge.page.documents import SCRIPT, SCRIPT_NAME, SCRIPT_TAG, problem_page
from edge_bridge.page.forwarding import Forwarding
from edge_bridge.page.relay_client import RelayClient
from edge_bridge.page.settings import PageSettings
from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode
from edge_schemas.wire.routes import PROBLEM_TYPE
from edge_ui import policy
from edge_ui.files import UiFiles
from edge_ui.paths import UI_PAGE
from edge_ui.serving import Ui

_CHANGES = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_CODES = {401: ErrorCode.UNAUTHENTICATED, 403: ErrorCode.FORBIDDEN, 405: ErrorCode.METHOD_NOT_ALLOWED}


def build_page(read_settings: Callable[[], PageSettings]) -> FastAPI:
    """The application. It opens no connection before its first call.

    Args:
        read_settings: See `RelayClient`.
    """
    relay = RelayClient(read_settings)
    forwarding = Forwarding(relay)

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        await relay.close()

    app = FastAPI(title="Edge Relay", docs_url=None, redoc_url=None, openapi_url=None, lifespan=closing)
    _add_routes(app, forwarding, Ui(UiFiles(SCRIPT_TAG), policy.headers((policy.SELF,))))
    app.exception_handler(EdgeError)(_answer_problem)
    app.exception_handler(HTTPException)(_answer_http_error)
    return app


def _add_routes(app: FastAPI, forwarding: Forwarding, ui: Ui) -> None:
    @app.get("/")
    async def root(caller: CallerDep) -> Response:  # noqa: ARG001  # only users who may see the page
        return RedirectResponse("ui/", headers=headers.own())

    @app.get("/open")
    async def open_view(request: Request, caller: CallerDep) -> Response:
        return RedirectResponse(await forwarding.open_view(request, caller), headers=headers.own())

    @app.get(f"/{SCRIPT_NAME}")
    async def frame_script(caller: CallerDep) -> Response:  # noqa: ARG001  # as above
        return FileResponse(
            SCRIPT, media_type="text/javascript", headers={**headers.own(), "cache-control": "no-cache"}
        )

    @app.get(UI_PAGE + "{rest:path}")
    async def page(request: Request, caller: CallerDep, rest: str) -> Response:  # noqa: ARG001  # as above
        answer = ui.answer(rest, request.url.query, request.headers)
        if answer is None:
            raise EdgeError(ErrorCode.NOT_FOUND, "the page has no such path")
        return Response(answer.body, answer.status, answer.headers)

    @app.api_route(paths.API + "/{rest:path}", methods=_CHANGES)
    async def api(request: Request, caller: CallerDep, rest: str) -> Response:
        return await forwarding.api(request, caller, rest)


async def _answer_problem(request: Request, error: EdgeError) -> Response:
    status = ERRORS[error.code].status
    if _wants_page(request):
        return Response(problem_page(error), status, headers.own(), "text/html; charset=utf-8")
    problem = error.problem(request.headers.get("x-request-id", "")[:64] or None)
    sent = headers.own()
    if problem.retry_after_s is not None:
        sent["Retry-After"] = str(math.ceil(problem.retry_after_s))
    return Response(problem.model_dump_json(exclude_none=True), status, sent, PROBLEM_TYPE)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """What Airflow's dependencies raise: a person who is not signed in is sent to Airflow's own page for that."""
    if error.status_code == 401 and _wants_page(request):
        return RedirectResponse(_sign_in(request), headers=headers.own())
    code = _CODES.get(error.status_code, ErrorCode.NOT_FOUND)
    return await _answer_problem(request, EdgeError(code, str(error.detail)))


def _sign_in(request: Request) -> str:
    from airflow.api_fastapi.app import get_auth_manager

    query = f"?{request.url.query}" if request.url.query else ""
    url = get_auth_manager().get_url_login()
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'next': f'{airflow_url(request)}{_path(request)}{query}'})}"


def _path(request: Request) -> str:
    """Below Airflow's own address, which may have a path itself."""
    from airflow.api_fastapi.app import API_ROOT_PATH

    return "/" + request.url.path.removeprefix(API_ROOT_PATH.rstrip("/")).lstrip("/")


def _wants_page(request: Request) -> bool:
    """Whether a person navigates here, and no script calls."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")
