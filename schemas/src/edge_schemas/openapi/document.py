"""The OpenAPI 3.1 document of the relay, made from the operations, the models and the table of problem codes."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from edge_schemas.admin.access import Role
from edge_schemas.openapi.operation import ACCESS, ENROLLMENT, WORKER, Operation
from edge_schemas.openapi.operations import OPERATIONS
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ERRORS, ErrorCode, Problem
from edge_schemas.wire.ids import BundleDigest, JobId, QueueName, RequestId, WorkerName
from edge_schemas.wire.job_calls import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, MAX_JOB_LOG_BYTES
from edge_schemas.wire.polls import PROTOCOL

Schema = dict[str, Any]
"""A part of the document, as plain JSON values."""
_SCHEMA_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_PAGE = "text/html"
_FOR_BROWSERS = (routes.ADMIN_OIDC_START, routes.ADMIN_OIDC_RETURN)
"""A person sees the error: it is a page."""
_ALWAYS = (ErrorCode.INTERNAL,)
_PATH_PARAMETERS = (
    ("job", TypeAdapter[str](JobId).json_schema()),
    ("queue", TypeAdapter[str](QueueName).json_schema()),
    ("worker", TypeAdapter[str](WorkerName).json_schema()),
    ("bundle", {"type": "string", "minLength": 1, "description": "Airflow's name for the bundle, any text."}),
    ("digest", TypeAdapter[str](BundleDigest).json_schema()),
    ("token", {"type": "string", "description": "The beginning of the hash of the token, as lists show it."}),
)


def openapi_document() -> Schema:
    """The whole document, as plain JSON values; the same at every call."""
    models: set[type[BaseModel]] = {Problem}
    for op in OPERATIONS:
        models.update(model for model in (op.request, *op.answers.values()) if model is not None)
    # "validation" for answers too: an answer omits fields that are None, so a field with a default is not required.
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda m: m.__name__)], ref_template=_SCHEMA_REF
    )
    paths: Schema = {}
    for op in OPERATIONS:
        paths.setdefault(op.path, {})[op.method] = _operation(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Edge Relay",
            "version": str(PROTOCOL),
            "summary": "A queue as a service: jobs over HTTPS long-polls",
            "description": "The version is the wire protocol's. Every error is a problem document (RFC 9457) whose "
            "`code` is the contract. Any call may also meet `method_not_allowed` (405), `not_found` (404) or "
            "`rate_limited` (429).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "workers", "description": "The workers' listener, the only one that is exposed."},
            {"name": "operators", "description": "The operators' listener, internal."},
        ],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(definitions["$defs"].items())),
            "securitySchemes": {
                WORKER: _bearer("The secret that the worker made before it enrolled."),
                ENROLLMENT: _bearer("An enrolment token, limited in uses and time."),
                ACCESS: _bearer("An access token, or a token of the identity provider. Browsers send a cookie."),
            },
        },
    }


def _operation(op: Operation) -> Schema:
    described: Schema = {
        "operationId": op.id,
        "summary": op.summary,
        "tags": [op.tag],
        "parameters": _parameters(op),
        "responses": _responses(op),
    }
    if op.role is not None:
        described["description"] = _who(op, op.role)
        described["x-role"] = str(op.role)
    if op.security is not None:
        described["security"] = [{op.security: []}]
    if body := _request_body(op):
        described["requestBody"] = body
    return described


def _who(op: Operation, role: Role) -> str:
    """Which operators may call it."""
    needed = f"Needs the role `{role}`"
    if not op.admin_actions:
        return f"{needed}."
    names = [f"`{name}`" for name in op.admin_actions]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{needed}; {listed} {'needs' if len(names) == 1 else 'need'} the role `{Role.ADMIN}`."


def _parameters(op: Operation) -> list[Schema]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH_PARAMETERS
        if f"{{{name}}}" in op.path
    ]
    if op.path == routes.JOB_EXECUTION:
        what = "Raw path below `/execution/`; slashes stay slashes. Dot segments and empty segments are rejected."
        found.append(
            {"name": "path", "in": "path", "required": True, "description": what, "schema": {"type": "string"}}
        )
        found += [
            {"name": name, "in": "header", "schema": {"type": "string"}, "description": "Forwarded."}
            for name in routes.FORWARDED_HEADERS
            if name != "content-type"  # OpenAPI describes that one by the request body
        ]
    if op.path == routes.JOB_LOG and op.method == "put":
        offset = {"type": "integer", "minimum": 0, "maximum": MAX_JOB_LOG_BYTES}
        what = "Where the bytes begin in the job's log file."
        found.append({"name": "offset", "in": "query", "required": True, "description": what, "schema": offset})
        encoding = {"type": "string", "enum": ["gzip", "identity"]}
        found.append({"name": "Content-Encoding", "in": "header", "schema": encoding})
    is_of_a_job = op.path.startswith((routes.JOB, routes.BUNDLE)) and op.tag == "workers"
    if op.path == routes.POLL or is_of_a_job:
        what = "A random value that the agent keeps in memory; a copy of its state folder lacks it."
        found.append({"name": routes.AGENT_HEADER, "in": "header", "description": what, "schema": {"type": "string"}})
    if op.query is not None:
        found += _query_parameters(op.query)
    if op.method == "get" and op.tag == "operators" and HTTPStatus.NOT_MODIFIED in op.answers:
        what = "The ETag of an answer that the client has."
        found.append({"name": "If-None-Match", "in": "header", "description": what, "schema": {"type": "string"}})
    request_id = TypeAdapter(RequestId).json_schema()
    found.append({"name": routes.REQUEST_ID_HEADER, "in": "header", "schema": request_id})
    return found


def _query_parameters(model: type[BaseModel]) -> list[Schema]:
    """A parameter for each field; what a field refers to stands in its place, and null is not sent."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found: list[Schema] = []
    for name, field in schema["properties"].items():
        options = [option for option in field.pop("anyOf", ()) if option.get("type") != "null"]
        merged = {**field, **(options[0] if len(options) == 1 else {"anyOf": options} if options else {})}
        reference = merged.pop("$ref", None)
        if reference is not None:
            merged |= definitions[reference.rpartition("/")[2]]
        if merged.get("default", "") is None:
            del merged["default"]
        merged.pop("title", None)
        found.append({"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": merged})
    return found


def _request_body(op: Operation) -> Schema | None:
    if op.request is not None:
        return {"required": True, "content": {_JSON: {"schema": _ref(op.request)}}}
    if op.path == routes.JOB_LOG and op.method == "put":
        what = f"At most {MAX_CHUNK_BYTES} bytes on the wire and {MAX_CHUNK_DECODED_BYTES} once decompressed."
        return {"required": True, "description": what, "content": {"application/octet-stream": {}}}
    if op.path == routes.JOB_EXECUTION and op.method in {"post", "put", "patch"}:
        return {"content": {_JSON: {}}}
    return None


def _responses(op: Operation) -> Schema:
    found: Schema = {}
    for status, model in op.answers.items():
        kind = _EVENTS if op.path == routes.ADMIN_CHANGES else _JSON
        content = {} if model is None else {"content": {kind: {"schema": _ref(model)}}}
        if op.media_type is not None:
            content = {"content": {op.media_type: {}}}
        nothing = "Not modified" if status == HTTPStatus.NOT_MODIFIED else "Done"
        found[str(status)] = {"description": nothing if model is None else model.__name__, **content}
    by_status: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys((*op.errors, *_ALWAYS)):
        by_status.setdefault(ERRORS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = _problems(codes)
        if op.path in _FOR_BROWSERS:
            found[str(status)]["content"][_PAGE] = {"schema": {"type": "string"}}
    if op.path == routes.JOB_EXECUTION:
        mark = f"{routes.ORIGIN_HEADER}: {routes.EXECUTION_ORIGIN}"
        what = f"What the Execution API answered; marked by the header `{mark}`."
        found["default"] = {"description": what}
    return found


def _problems(codes: list[ErrorCode]) -> Schema:
    only = {"properties": {"code": {"enum": [str(code) for code in codes]}}}
    return {
        "description": "; ".join(f"`{code}`: {ERRORS[code].title}" for code in codes),
        "content": {routes.PROBLEM_TYPE: {"schema": {"allOf": [_ref(Problem), only]}}},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _SCHEMA_REF.format(model=model.__name__)}


def _bearer(description: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": description}
