"""Reading and writing JSON bodies: bounded and typed; an error says what is wrong and never quotes the body."""

import re
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge_relay.http.raw_bodies import OnBytes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_memory import BodyAccount, BodyMemory
from edge_service.body_progress import BodyStalled, BodyTooLarge, read_body

Model = TypeVar("Model", bound=BaseModel)

JSON_TYPE = "application/json"
MAX_ERRORS_NAMED = 5
MAX_FIELD_CHARS = 80
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


class JsonBodies:
    """Reads the JSON bodies of callers whose credential was accepted.

    Args:
        memory: Counts what is read.
        small: The most bytes where a body has a few fields.
        large: The most bytes elsewhere.
    """

    def __init__(self, memory: BodyMemory, *, small: int, large: int) -> None:
        self._memory = memory
        self._small = small
        self._large = large

    async def small(self, request: web.Request, owner: str, model: type[Model]) -> Model:
        """The body of a call with a few fields.

        Args:
            request: The call.
            owner: Whose memory is used: a worker's name, or what else identifies a known caller.
            model: Of the body.

        Raises:
            EdgeError: See `read_model`; `rate_limited` if there is no memory for it.
            ConnectionResetError: See `read_model`.
        """
        with self._memory.account(owner) as account:
            return await read_model(request, model, self._small, account.add)

    async def large(self, request: web.Request, owner: str, model: type[Model]) -> Model:
        """The body of a call that may list many things; arguments and errors as for `small`."""
        with self._memory.account(owner) as account:
            return await read_model(request, model, self._large, account.add)

    def held(self, owner: str) -> BodyAccount:
        """Count the large body of a call as long as it is worked on; it leaves room for the bodies of workers."""
        return self._memory.account(owner, large_from=0)

    async def up_to(self, request: web.Request, owner: str, model: type[Model], limit: int) -> Model:
        """The body of a call with a limit of its own; other arguments and errors as for `small`.

        One that is not small leaves room for those that are.
        """
        with self._memory.account(owner, large_from=self._small) as account:
            return await read_model(request, model, limit, account.add)


async def read_model(
    request: web.Request, model: type[Model], limit: int | None = None, on_bytes: OnBytes | None = None
) -> Model:
    """The body of a call as a model.

    Args:
        request: The call.
        model: Of the body.
        limit: The most bytes; the application's limit unless given.
        on_bytes: Counts what arrives.

    Raises:
        EdgeError: `unsupported_media_type`, `payload_too_large` or `invalid_request`.
        ConnectionResetError: It arrived too slowly. No error code fits: without an answer the caller repeats the call.
    """
    require_type(request, JSON_TYPE)
    try:
        body = await read_body(request.content, limit=limit or request.client_max_size, on_bytes=on_bytes)
    except BodyTooLarge:
        raise EdgeError(ErrorCode.PAYLOAD_TOO_LARGE) from None
    except BodyStalled as error:
        raise ConnectionResetError(str(error)) from None
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise EdgeError(ErrorCode.INVALID_REQUEST, explain(error)) from None


def require_type(request: web.Request, content_type: str) -> None:
    """Refuse a body of another type, or an encoded one.

    Raises:
        EdgeError: `unsupported_media_type`.
    """
    if request.content_type != content_type:
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"send the body as {content_type}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body without a content encoding")


def job_of(request: web.Request) -> str:
    """The job that the path of a call names.

    Raises:
        EdgeError: `invalid_request`: it can't be a job's id.
    """
    job = request.match_info["job"]
    if not _JOB_ID.fullmatch(job):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path must name a job by its id, a lower-case UUID")
    return job


def explain(error: ValidationError) -> str:
    """Which fields are wrong and why, without their values: a value may be a secret."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    lines = [f"{_path(one['loc'])}: {one['msg']}" if one["loc"] else one["msg"] for one in found[:MAX_ERRORS_NAMED]]
    if len(found) > MAX_ERRORS_NAMED:
        lines.append(f"and {len(found) - MAX_ERRORS_NAMED} more")
    return "; ".join(lines)


def _path(location: tuple[int | str, ...]) -> str:
    """A field's path. The name of an unknown field comes from the client, so it is cut and cleaned."""
    text = ".".join(str(part) for part in location)
    return _NOT_PRINTABLE.sub("?", text[:MAX_FIELD_CHARS])


def json_response(model: BaseModel, *, status: int = 200) -> web.Response:
    """An answer with a model as its body."""
    return web.Response(status=status, body=model.model_dump_json(exclude_none=True).encode(), content_type=JSON_TYPE)
