"""Query parameters as a model, and answers that a client need not receive twice."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge_relay.http.bodies import JSON_TYPE, explain
from edge_schemas.wire.errors import EdgeError, ErrorCode

Query = TypeVar("Query", bound=BaseModel)
MAX_NAMES_ECHOED = 5


def parse_query(request: web.Request, model: type[Query]) -> Query:
    """The query parameters of a call.

    Raises:
        EdgeError: `invalid_request`; names what is allowed.
    """
    given = request.query
    unknown = sorted(set(given) - set(model.model_fields))
    if unknown:
        allowed = ", ".join(model.model_fields) or "none"
        raise EdgeError(
            ErrorCode.INVALID_REQUEST, f"unknown query parameters {_printable(unknown)}; allowed are: {allowed}"
        )
    twice = sorted({name for name in given if len(given.getall(name)) > 1})
    if twice:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"query parameters {_printable(twice)} may be given once")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise EdgeError(ErrorCode.INVALID_REQUEST, explain(error)) from None


def _printable(names: Iterable[str]) -> str:
    shown = list(names)[:MAX_NAMES_ECHOED]
    return ", ".join(ascii(name[:40]) for name in shown)


def conditional(request: web.Request, answer: BaseModel) -> web.Response:
    """The answer with an ETag of what it shows, its age left out; 304 if the client has it already."""
    shown = answer.model_dump_json(exclude_none=True, exclude={"as_of"}).encode()
    etag = f'W/"{blake2b(shown, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in {part.strip() for part in request.headers.get("If-None-Match", "").split(",")}:
        return web.Response(status=304, headers=headers)
    age = answer.model_dump_json(include={"as_of"}).encode()
    body = shown if age == b"{}" else age[:-1] + (b"," + shown[1:] if len(shown) > 2 else b"}")
    return web.Response(body=body, content_type=JSON_TYPE, headers=headers)
