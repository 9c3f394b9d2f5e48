"""Commands about access tokens of operators and enrolment tokens of workers."""

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edge_relay.cli.admin_client import AdminClient, connect, parse, segment, wrong_input
from edge_relay.cli.fleet.rows import figure
from edge_relay.cli.fleet.views import ListView, pages, query_of, show_list
from edge_relay.cli.output import EXIT_USAGE, Failure, print_done, print_json, print_line
from edge_relay.cli.show.screen import Cell, Colour, Screen
from edge_relay.cli.show.table import Column
from edge_schemas.admin.access import AccessScope, AccessToken, AccessTokenRequest, AccessTokenRow, EnrollTokenRow
from edge_schemas.admin.rows import AccessTokenPage, EnrollTokenPage
from edge_schemas.wire import routes
from edge_schemas.wire.workers import EnrollToken, EnrollTokenRequest

Request = TypeVar("Request", bound=BaseModel)

ACCESS, ENROLL = "access", "enroll"
_PATHS = {ACCESS: routes.ADMIN_ACCESS_TOKENS, ENROLL: routes.ADMIN_ENROLL_TOKENS}
_ACCESS_COLUMNS = (
    Column("ID"),
    Column("NAME"),
    Column("ROLE"),
    Column("STATE"),
    Column("EXPIRES"),
    Column("LAST USE"),
    Column("CREATED"),
    Column("ONLY FOR", shrinks=True),
)
_ENROLL_COLUMNS = (
    Column("ID"),
    Column("SITE"),
    Column("QUEUES", shrinks=True),
    Column("USED"),
    Column("EXPIRES"),
    Column("TEAM", shrinks=True),
    Column("WORKERS", shrinks=True),
)


def create_enroll_token(options: Namespace) -> None:
    """`enroll-token create`."""
    given = {"site": options.site, "team": options.team, "uses": options.uses, "ttl_s": options.ttl}
    order = _request(EnrollTokenRequest, {"queues": options.queues, **given})
    answer = connect(options).call("POST", routes.ADMIN_ENROLL_TOKENS, order.model_dump_json())
    token = parse(EnrollToken, answer)
    if options.json:
        print_json(json.loads(answer))
        return
    print_line(token.token)
    queues_text = ", ".join(token.queues)
    print_line(
        f"For {token.uses} worker(s) at {token.site}, queues {queues_text}, until {token.expires_at:%F %H:%M} UTC."
    )
    print_line("It is shown only now. On the worker's machine put it into a file and run 'edge-worker enroll', or run:")
    print_line("")
    for line in (token.command or "edge-worker enroll").splitlines():
        print_line(line)


def create_access_token(options: Namespace) -> None:
    """`tokens create`."""
    given = {"name": options.name, "role": options.role, "ttl_s": options.ttl, "reason": options.reason}
    wanted = {**given, "sites": options.sites, "queues": options.queues, "for_airflow": options.for_airflow}
    order = _request(AccessTokenRequest, wanted)
    answer = connect(options).call("POST", routes.ADMIN_ACCESS_TOKENS, order.model_dump_json())
    token = parse(AccessToken, answer)
    if options.json:
        print_json(json.loads(answer))
        return
    print_line(token.token)
    until = "without end" if token.expires_at is None else f"until {token.expires_at:%F %H:%M} UTC"
    print_line(f"For {token.name} as {token.role}, {until}; its id is {token.id}.")
    print_line("It is shown only now. Keep it in a file of mode 0600; 'edge-relay context add' names the file.")


def list_tokens(options: Namespace) -> None:
    """`tokens list`: of one kind, or first those of operators, then those for workers."""
    if options.kind is not None:
        _show(options, options.kind)
        return
    if options.watch:
        raise Failure("--watch shows one list: add --kind access or --kind enroll", EXIT_USAGE)
    if options.json:
        client = connect(options)
        print_json({kind: _all(client, path, options.limit) for kind, path in _PATHS.items()})
        return
    print_line("Access tokens of operators")
    _show(options, ACCESS)
    print_line("\nEnrolment tokens for workers")
    _show(options, ENROLL)


def revoke_token(options: Namespace) -> None:
    """`tokens revoke`. An id is looked for in both kinds, unless the kind is given."""
    client = connect(options)
    kind = options.kind or _kind_of(client, options.id)
    path = routes.ADMIN_ACCESS_TOKEN if kind == ACCESS else routes.ADMIN_ENROLL_TOKEN
    client.call("DELETE", path.format(token=segment(options.id)), query=query_of(reason=options.reason))
    print_done(options, f"{options.id} is revoked: it is refused from now on.", id=options.id, kind=kind)


def _kind_of(client: AdminClient, token: str) -> str:
    for kind, path in _PATHS.items():
        if any(row["id"] == token for page in pages(client, path, {}) for row in page["items"]):
            return kind
    raise Failure(f"there is no token with the id {token!r}; 'edge-relay tokens list' shows all")


def _all(client: AdminClient, path: str, limit: int | None) -> list[object]:
    return [row for page in pages(client, path, {}, limit) for row in page["items"]]


def _show(options: Namespace, kind: str) -> None:
    path = _PATHS[kind]
    if kind == ACCESS:
        empty = "There is no access token yet. 'edge-relay tokens create' creates one."
        show_list(options, ListView(path, AccessTokenPage, _ACCESS_COLUMNS, _access_cells, empty))
    else:
        empty = "There is none. 'edge-relay enroll-token create' creates one."
        show_list(options, ListView(path, EnrollTokenPage, _ENROLL_COLUMNS, _enroll_cells, empty))


def _access_cells(row: AccessTokenRow, on: Screen) -> tuple[str | Cell, ...]:
    state = Cell("active", Colour.GOOD)
    if row.revoked_at is not None:
        state = Cell("revoked", Colour.FAINT)
    elif row.expires_at is not None and row.expires_at <= on.now:
        state = Cell("expired", Colour.FAINT)
    expires = "never" if row.expires_at is None else on.until(row.expires_at)
    only = _scope(row.scope) + (" (of an Airflow api-server)" if row.for_airflow else "")
    return row.id, row.name, row.role.value, state, expires, on.ago(row.last_used_at), on.ago(row.created_at), only


def _scope(scope: AccessScope) -> str:
    parts = [
        f"{name} {', '.join(found)}" for name, found in (("sites", scope.sites), ("queues", scope.queues)) if found
    ]
    return "; ".join(parts) or "everything"


def _enroll_cells(row: EnrollTokenRow, on: Screen) -> tuple[str | Cell, ...]:
    used = f"{figure(row.used)} of {figure(row.uses)}"
    expires = on.until(row.expires_at) if row.expires_at > on.now else Cell("expired", Colour.FAINT)
    return row.id, row.site, ",".join(row.queues), used, expires, row.team or "-", ",".join(row.workers) or "-"


def _request(model: type[Request], given: Mapping[str, object]) -> Request:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise wrong_input(error) from None
