"""The fake of the operators' API: sign-in, lists, actions and the stream of changes, with the dashboard's own files."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge_relay.fleet.changes import ALIVE_EVERY_S
from edge_relay.http.operators.ui import UiHandlers
from edge_relay.http.queries import parse_query
from edge_schemas.admin import access_queries, rows, view_queries
from edge_schemas.admin.access import (
    AccessScope,
    AccessToken,
    AccessTokenRequest,
    AccessTokenRow,
    EnrollTokenRow,
    Role,
    Session,
    SignedInBy,
    SignInMethods,
    SignInRequest,
)
from edge_schemas.admin.actions import JobActionRequest, QueueActionRequest, SiteActionRequest, WorkerActionRequest
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import EnrollToken, EnrollTokenRequest
from edge_ui.files import UiFiles
from support.dashboard import answers
from support.dashboard.changes import FleetActions
from support.dashboard.fleet import Fleet, now

COOKIE = "edge_session"
CSRF = "csrf-of-this-session"
TOKENS = {"era_viewer": Role.VIEWER, "era_operator": Role.OPERATOR, "era_admin": Role.ADMIN}
UI_FILES = UiFiles()
Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeApi:
    """The API and what tests change of it.

    Attributes:
        broker_lost: Every call answers `broker_unavailable`.
        date: What the header `Date` of each answer says; None for the real time.
        knows_since: Since when the relay's memory is not followed; lists are answered all the same.
        signed_in_by: Airflow signs its users in itself: no cookie is needed then.
        airflow_signed_out: The user's session in Airflow has ended.
        requests: Method, path and body of each change.
        streams: Whether the stream of changes is served.
    """

    fleet: Fleet
    broker_lost: bool = False
    date: datetime | None = None
    knows_since: datetime | None = None
    signed_in_by: SignedInBy = SignedInBy.TOKEN
    airflow_signed_out: bool = False
    oidc: str | None = None
    scope: AccessScope = field(default_factory=AccessScope)
    streams: bool = True
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    _listeners: set[asyncio.Queue[tuple[str, ...]]] = field(default_factory=set)

    def application(self) -> web.Application:
        """The API and the dashboard's files."""
        app = web.Application(middlewares=[self._answer_errors])
        app.add_routes(UiHandlers(UI_FILES, ("'self'",)).routes())
        get, post, delete = web.get, web.post, web.delete
        app.add_routes(
            [
                get(routes.ADMIN_SIGN_IN, self._methods),
                post(routes.ADMIN_SIGN_IN, self._sign_in),
                get(routes.ADMIN_SESSION, self._session),
                delete(routes.ADMIN_SESSION, self._sign_out),
                get(routes.ADMIN_CHANGES, self._changes),
                get(routes.ADMIN_OVERVIEW, self._overview),
                get(routes.ADMIN_WORKERS, self._workers),
                get(routes.ADMIN_WORKER, self._worker),
                post(routes.ADMIN_WORKER_ACTIONS, self._act(WorkerActionRequest)),
                get(routes.ADMIN_SITES, self._sites),
                post(routes.ADMIN_SITE_ACTIONS, self._act(SiteActionRequest)),
                get(routes.ADMIN_QUEUES, self._queues),
                post(routes.ADMIN_QUEUE_ACTIONS, self._act(QueueActionRequest)),
                get(routes.ADMIN_JOBS, self._jobs),
                get(routes.ADMIN_JOB, self._job),
                get(routes.ADMIN_JOB_WHY, self._why),
                post(routes.ADMIN_JOB_ACTIONS, self._act(JobActionRequest)),
                get(routes.ADMIN_ENROLL_TOKENS, self._enroll_tokens),
                post(routes.ADMIN_ENROLL_TOKENS, self._create_enroll_token),
                delete(routes.ADMIN_ENROLL_TOKEN, self._revoke_token),
                get(routes.ADMIN_ACCESS_TOKENS, self._access_tokens),
                post(routes.ADMIN_ACCESS_TOKENS, self._create_access_token),
                delete(routes.ADMIN_ACCESS_TOKEN, self._revoke_token),
                get(routes.ADMIN_AUDIT, self._audit),
            ]
        )
        return app

    def changed(self, *views: str) -> None:
        """Says on all streams what to read again."""
        for listener in self._listeners:
            listener.put_nowait(views)

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_api = request.path.startswith("/v1/admin")
        try:
            if is_api and self.broker_lost:
                raise EdgeError(ErrorCode.BROKER_UNAVAILABLE, "no server of nats://127.0.0.1:4222 can be reached")
            if is_api and request.method == "GET":
                self.reads.append(request.path_qs)
            answer = await handler(request)
            if self.date is not None and not answer.prepared:
                answer.headers["Date"] = format_datetime(self.date, usegmt=True)
            return answer
        except EdgeError as error:
            body = error.problem("request-1")
            return web.Response(status=body.status, text=body.model_dump_json(), content_type=routes.PROBLEM_TYPE)

    def _role(self, request: web.Request, needed: Role = Role.VIEWER) -> Role:
        token = request.cookies.get(COOKIE, "")
        by_airflow = None if self.airflow_signed_out else Role.OPERATOR
        role = by_airflow if self.signed_in_by is SignedInBy.AIRFLOW else TOKENS.get(token)
        if role is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "sign in")
        if request.method != "GET" and request.headers.get(routes.CSRF_HEADER) != CSRF:
            raise EdgeError(ErrorCode.FORBIDDEN, "the header Edge-Csrf is missing or wrong")
        if not role.includes(needed):
            raise EdgeError(ErrorCode.FORBIDDEN, f"this needs the role {needed}; anna has the role {role}")
        return role

    async def _methods(self, _: web.Request) -> web.Response:
        if self.signed_in_by is SignedInBy.AIRFLOW:
            raise EdgeError(ErrorCode.NOT_FOUND, "the page has no such path")
        return _json(SignInMethods(oidc=self.oidc))

    async def _sign_in(self, request: web.Request) -> web.Response:
        token = (await self._body(request, SignInRequest)).token
        if token not in TOKENS:
            raise EdgeError(ErrorCode.UNAUTHENTICATED, "the token is unknown")
        answer = web.Response(status=204)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="Strict", path="/")
        return answer

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._role(request)
        answer = web.Response(status=204)
        answer.del_cookie(COOKIE, path="/")
        return answer

    async def _session(self, request: web.Request) -> web.Response:
        return _json(
            Session(
                name="anna",
                role=self._role(request),
                scope=self.scope,
                by=self.signed_in_by,
                csrf=CSRF,
                airflow_url="https://airflow.example",
                relay="relay-1",
                version="0.1.0",
            )
        )

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        self._role(request)
        if not self.streams:
            raise EdgeError(ErrorCode.NOT_FOUND)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await stream.prepare(request)
        queue: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                views: tuple[str, ...] = ()
                with suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_EVERY_S):
                        views = await queue.get()
                if self.broker_lost:
                    break
                change = rows.Change(views=views, as_of=self.knows_since or now())
                kind, data = "change" if views else "alive", change.model_dump_json(exclude_defaults=True)
                await stream.write(f"event: {kind}\ndata: {data}\n\n".encode())
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self._listeners.discard(queue)
        return stream

    async def _overview(self, request: web.Request) -> web.Response:
        self._role(request)
        return _json(answers.overview(self.fleet))

    async def _workers(self, request: web.Request) -> web.Response:
        self._role(request)
        parse_query(request, view_queries.WorkerQuery)
        found = FleetActions(self.fleet).matching_workers(dict(request.query))
        return self._page(request, rows.WorkerPage, found)

    async def _worker(self, request: web.Request) -> web.Response:
        self._role(request)
        name = request.match_info["worker"]
        if name not in self.fleet.workers:
            raise EdgeError(ErrorCode.NOT_FOUND, f"there is no worker {name}")
        return _json(answers.worker_detail(self.fleet, name))

    async def _sites(self, request: web.Request) -> web.Response:
        self._role(request)
        parse_query(request, view_queries.SiteQuery)
        wanted = [row for row in self.fleet.sites() if _matches(request, row, "state")]
        return self._page(request, rows.SitePage, [row for row in wanted if request.query.get("text", "") in row.site])

    async def _queues(self, request: web.Request) -> web.Response:
        self._role(request)
        parse_query(request, view_queries.QueueQuery)
        found = [row for row in self.fleet.queues.values() if request.query.get("text", "") in row.queue]
        return self._page(request, rows.QueuePage, found)

    async def _jobs(self, request: web.Request) -> web.Response:
        self._role(request)
        parse_query(request, view_queries.JobQuery)
        parked, ended = request.query.get("parked") == "true", request.query.get("ended") == "true"
        fields = ("state", "queue", "worker", "site", "dag_id", "run_id")
        found = [
            row
            for row in self.fleet.jobs.values()
            if all(_matches(request, row, name) for name in fields)
            and request.query.get("text", "") in row.task + row.job
            and (not parked or row.parked)
            and ended == (row.state.value == "ended")
        ]
        return self._page(request, rows.JobPage, found)

    def _job_of(self, request: web.Request) -> str:
        self._role(request)
        job = request.match_info["job"]
        if job not in self.fleet.jobs:
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such job")
        return job

    async def _job(self, request: web.Request) -> web.Response:
        return _json(answers.job_detail(self.fleet, self._job_of(request)))

    async def _why(self, request: web.Request) -> web.Response:
        return _json(answers.why(self.fleet, self._job_of(request)))

    def _act(self, model: type[BaseModel]) -> Handler:
        async def act(request: web.Request) -> web.Response:
            role = self._role(request, Role.OPERATOR)
            body = await self._body(request, model)
            result = FleetActions(self.fleet).act(body, role)
            if not result.dry_run:
                self.changed("workers", "sites", "queues", "jobs", "audit")
            return _json(result)

        return act

    async def _body(self, request: web.Request, model: type[Model]) -> Model:
        sent = await request.json()
        self.requests.append((request.method, request.path, sent))
        try:
            return model.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise EdgeError(ErrorCode.INVALID_REQUEST, detail) from None

    async def _enroll_tokens(self, request: web.Request) -> web.Response:
        self._role(request, Role.ADMIN)
        parse_query(request, access_queries.TokenQuery)
        return self._page(request, rows.EnrollTokenPage, list(self.fleet.enroll_tokens.values()))

    async def _access_tokens(self, request: web.Request) -> web.Response:
        self._role(request, Role.ADMIN)
        parse_query(request, access_queries.TokenQuery)
        return self._page(request, rows.AccessTokenPage, list(self.fleet.access_tokens.values()))

    async def _create_enroll_token(self, request: web.Request) -> web.Response:
        self._role(request, Role.ADMIN)
        body = await self._body(request, EnrollTokenRequest)
        token, expires = "ere_Wn4bq3-shown-once-6f0", now() + timedelta(seconds=body.ttl_s)
        row = EnrollTokenRow(
            id=_id(token),
            site=body.site,
            queues=body.queues,
            team=body.team,
            uses=body.uses,
            used=0,
            expires_at=expires,
        )
        self.fleet.enroll_tokens[row.id] = row
        answer = EnrollToken(
            token=token,
            site=body.site,
            queues=body.queues,
            uses=body.uses,
            expires_at=expires,
            command=answers.ENROLL.text(token),
        )
        return _json(answer, status=201)

    async def _create_access_token(self, request: web.Request) -> web.Response:
        self._role(request, Role.ADMIN)
        body = await self._body(request, AccessTokenRequest)
        token = "era_7Kd1-shown-once-x2"
        expires = None if body.ttl_s is None else now() + timedelta(seconds=body.ttl_s)
        self.fleet.access_tokens[_id(token)] = AccessTokenRow(
            id=_id(token),
            name=body.name,
            role=body.role,
            scope=AccessScope(sites=body.sites, queues=body.queues),
            created_at=now(),
            expires_at=expires,
            for_airflow=body.for_airflow,
        )
        answer = AccessToken(id=_id(token), token=token, name=body.name, role=body.role, expires_at=expires)
        return _json(answer, status=201)

    async def _revoke_token(self, request: web.Request) -> web.Response:
        self._role(request, Role.ADMIN)
        parse_query(request, access_queries.RevokeQuery)
        self.requests.append((request.method, request.path, dict(request.query)))
        token = request.match_info["token"]
        kept: dict[str, Any] = self.fleet.access_tokens if "access-tokens" in request.path else self.fleet.enroll_tokens
        if "access-tokens" in request.path:
            kept[token] = kept[token].model_copy(update={"revoked_at": now()})
        else:
            del kept[token]
        self.changed("tokens", "audit")
        return web.Response(status=204)

    def _page(self, request: web.Request, page: type[BaseModel], found: Iterable[BaseModel]) -> web.Response:
        return _page(self.knows_since or now(), request, page, found)

    async def _audit(self, request: web.Request) -> web.Response:
        self._role(request)
        parse_query(request, access_queries.AuditQuery)
        found = [
            event
            for event in self.fleet.audit
            if request.query.get("target", event.target) == event.target
            and request.query.get("text", "") in f"{event.action} {event.target} {event.reason}"
            and request.query.get("kind", event.target_kind) == event.target_kind
            and request.query.get("action", event.action) == event.action
        ]
        return self._page(request, rows.AuditPage, found)


def _json(model: BaseModel, status: int = 200) -> web.Response:
    return web.Response(status=status, text=model.model_dump_json(exclude_none=True), content_type="application/json")


def _matches(request: web.Request, row: BaseModel, name: str) -> bool:
    return request.query.get(name, "") in {"", str(getattr(row, name))}


def _id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def _page(as_of: datetime, request: web.Request, page: type[BaseModel], found: Iterable[BaseModel]) -> web.Response:
    """100 rows from the cursor, which is a row number here; answered with 304 if the caller has them."""
    rows_found = list(found)
    sort = request.query.get("sort", "")
    column = sort.removeprefix("-")
    if column:
        rows_found.sort(key=lambda row: _sortable(getattr(row, column)), reverse=sort.startswith("-"))
    limit = int(request.query.get("limit", "100"))
    first = int(request.query.get("cursor", "0"))
    shown = rows_found[first : first + limit]
    following = str(first + limit) if first + limit < len(rows_found) else None
    body = page(items=tuple(shown), total=len(rows_found), next=following, as_of=as_of)
    etag = f'"{_id(body.model_dump_json(exclude={"as_of"}))}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    answer = _json(body)
    answer.headers["ETag"] = etag
    return answer


def _sortable(value: object) -> tuple[bool, Any]:
    return value is None, 0 if value is None else value
