"""The OpenAPI 3.1 document of the relay, made from the models, the routes and the table of problem codes.

The relay serves it, the reference page is written from it, and tests send what it describes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.life.model import JobRecord
from edge_schemas.wire import routes, workers
from edge_schemas.wire.errors import ERRORS, ErrorCode, Problem
from edge_schemas.wire.ids import JobId, RequestId, WorkerName
from edge_schemas.wire.logs import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, MAX_JOB_LOG_BYTES, LogPosition
from edge_schemas.wire.polls import PROTOCOL, FinishRequest, Poll, PollAnswer, ReleaseRequest, StartRequest

_E = ErrorCode
_SCHEMA_REF = "#/components/schemas/{model}"
_JSON = "application/json"
_WORKER, _ENROLLMENT, _ACCESS = "workerSecret", "enrollmentToken", "accessToken"

_ALWAYS = (_E.INTERNAL,)
_CALL = (_E.INVALID_REQUEST, _E.UNAUTHENTICATED, _E.BROKER_UNAVAILABLE, _E.DRAINING)
_BODY = (_E.PAYLOAD_TOO_LARGE, _E.UNSUPPORTED_MEDIA_TYPE)
_JOB = (_E.CREDENTIAL_REVOKED, _E.NOT_HOLDER, _E.WRONG_STATE, _E.JOB_ENDED)
_PATH_TYPES: dict[str, Any] = {"job": JobId, "worker": WorkerName}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        answers: Status of a good answer to its model; None where there is no body.
        errors: Codes it may answer with, besides those that every call may meet.
    """

    method: str
    path: str
    id: str
    summary: str
    tag: Literal["workers", "operators", "health"]
    answers: dict[int, type[BaseModel] | None]
    security: str | None = None
    request: type[BaseModel] | None = None
    errors: tuple[ErrorCode, ...] = ()


OPERATIONS = (
    Operation(
        "post",
        routes.ENROLL,
        "enroll",
        "Trade an enrolment token for a worker",
        "workers",
        {200: workers.Enrollment},
        _ENROLLMENT,
        workers.EnrollRequest,
        (*_CALL, *_BODY, _E.ENROLLMENT_REFUSED, _E.PROTOCOL_UNSUPPORTED),
    ),
    Operation(
        "post",
        routes.POLL,
        "poll",
        "Report and wait for work; 204 says that there is nothing to do",
        "workers",
        {200: PollAnswer, 204: None},
        _WORKER,
        Poll,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.SUPERSEDED, _E.PROTOCOL_UNSUPPORTED),
    ),
    Operation(
        "get",
        routes.WORKER,
        "showWorker",
        "What the credential is good for, and what its runtime must match; changes nothing",
        "workers",
        {200: WorkerFacts},
        _WORKER,
        errors=(_E.UNAUTHENTICATED, _E.CREDENTIAL_REVOKED, _E.BROKER_UNAVAILABLE),
    ),
    Operation(
        "post",
        routes.JOB_START,
        "startJob",
        "Confirm a grant and become the holder of its job",
        "workers",
        {204: None},
        _WORKER,
        StartRequest,
        (*_CALL, *_BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED, _E.TAKEOVER_PENDING),
    ),
    Operation(
        "post",
        routes.JOB_FINISH,
        "finishJob",
        "Report that a job's processes are gone",
        "workers",
        {204: None},
        _WORKER,
        FinishRequest,
        (*_CALL, *_BODY, *_JOB, _E.TAKEOVER_PENDING),
    ),
    Operation(
        "post",
        routes.JOB_RELEASE,
        "releaseJob",
        "Give a granted job back",
        "workers",
        {204: None},
        _WORKER,
        ReleaseRequest,
        (*_CALL, *_BODY, *_JOB, _E.FORBIDDEN, _E.RECEIPT_EXPIRED),
    ),
    Operation(
        "put",
        routes.JOB_LOG,
        "appendLog",
        "Append bytes to a job's log; the answer says up to where it is durable",
        "workers",
        {200: LogPosition},
        _WORKER,
        errors=(*_CALL, *_BODY, *_JOB, _E.OFFSET_MISMATCH),
    ),
    *(
        Operation(
            method,
            routes.JOB_EXECUTION,
            f"{method}Execution",
            "Hand a call of a task on to Airflow's Execution API",
            "workers",
            {},
            _WORKER,
            errors=(*_CALL, *_JOB, _E.PAYLOAD_TOO_LARGE, _E.GATE_UNAVAILABLE),
        )
        for method in ("get", "head", "post", "put", "patch", "delete")
    ),
    Operation(
        "post",
        routes.ADMIN_ENROLL_TOKENS,
        "createEnrollToken",
        "Make an enrolment token",
        "operators",
        {201: workers.EnrollToken},
        _ACCESS,
        workers.EnrollTokenRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "get",
        routes.ADMIN_WORKERS,
        "listWorkers",
        "All workers that ever enrolled",
        "operators",
        {200: workers.WorkerList},
        _ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_REVOKE,
        "revokeWorker",
        "End a worker's credential, for good",
        "operators",
        {204: None},
        _ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "post",
        routes.ADMIN_WORKER_RESOLVE,
        "resolveConflict",
        "Decide which of two agents with one credential is the worker",
        "operators",
        {204: None},
        _ACCESS,
        workers.ResolveConflictRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "get",
        routes.ADMIN_JOB,
        "showJob",
        "The record of a job, without its workload",
        "operators",
        {200: JobRecord},
        _ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.NOT_FOUND),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_CANCEL,
        "cancelJob",
        "End a job, wherever it is; the answer says where it stands then",
        "operators",
        {200: JobRecord},
        _ACCESS,
        workers.CancelRequest,
        (*_CALL, *_BODY, _E.CREDENTIAL_REVOKED, _E.JOB_ENDED),
    ),
    Operation(
        "post",
        routes.ADMIN_JOB_REDRIVE,
        "redriveJob",
        "Have a parked job published again",
        "operators",
        {204: None},
        _ACCESS,
        errors=(*_CALL, _E.CREDENTIAL_REVOKED, _E.WRONG_STATE, _E.JOB_ENDED),
    ),
)


def document() -> dict[str, Any]:
    """The whole document, as plain JSON values; the same at every call."""
    models: set[type[BaseModel]] = {Problem}
    for op in OPERATIONS:
        models.update(model for model in (op.request, *op.answers.values()) if model is not None)
    # "validation" for answers too: what is None is left out of an answer, so a field with a default isn't required.
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda m: m.__name__)], ref_template=_SCHEMA_REF
    )
    paths: dict[str, Any] = {}
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
                _WORKER: _bearer("The secret that the worker made before it enrolled."),
                _ENROLLMENT: _bearer("An enrolment token, limited in uses and time."),
                _ACCESS: _bearer("An operator's access token."),
            },
        },
    }


def _operation(op: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": op.id,
        "summary": op.summary,
        "tags": [op.tag],
        "parameters": _parameters(op),
        "responses": _responses(op),
    }
    if op.security is not None:
        described["security"] = [{op.security: []}]
    if body := _request_body(op):
        described["requestBody"] = body
    return described


def _parameters(op: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": TypeAdapter(kind).json_schema()}
        for name, kind in _PATH_TYPES.items()
        if f"{{{name}}}" in op.path
    ]
    if op.path == routes.JOB_EXECUTION:
        what = "Raw path below `/execution/`; slashes stay slashes. Dot segments and empty segments are refused."
        found.append(
            {"name": "path", "in": "path", "required": True, "description": what, "schema": {"type": "string"}}
        )
        found += [
            {"name": name, "in": "header", "schema": {"type": "string"}, "description": "Handed on."}
            for name in routes.FORWARDED_HEADERS
            if name != "content-type"  # OpenAPI describes that one by the request body
        ]
    if op.path == routes.JOB_LOG:
        offset = {"type": "integer", "minimum": 0, "maximum": MAX_JOB_LOG_BYTES}
        what = "Where the bytes begin in the job's log file."
        found.append({"name": "offset", "in": "query", "required": True, "description": what, "schema": offset})
        encoding = {"type": "string", "enum": ["gzip", "identity"]}
        found.append({"name": "Content-Encoding", "in": "header", "schema": encoding})
    request_id = TypeAdapter(RequestId).json_schema()
    found.append({"name": routes.REQUEST_ID_HEADER, "in": "header", "schema": request_id})
    return found


def _request_body(op: Operation) -> dict[str, Any] | None:
    if op.request is not None:
        return {"required": True, "content": {_JSON: {"schema": _ref(op.request)}}}
    if op.path == routes.JOB_LOG:
        what = f"At most {MAX_CHUNK_BYTES} bytes on the wire and {MAX_CHUNK_DECODED_BYTES} once decompressed."
        return {"required": True, "description": what, "content": {"application/octet-stream": {}}}
    if op.path == routes.JOB_EXECUTION and op.method in {"post", "put", "patch"}:
        return {"content": {_JSON: {}}}
    return None


def _responses(op: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, model in op.answers.items():
        content = {} if model is None else {"content": {_JSON: {"schema": _ref(model)}}}
        found[str(status)] = {"description": "Done" if model is None else model.__name__, **content}
    by_status: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys((*op.errors, *_ALWAYS)):
        by_status.setdefault(ERRORS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        found[str(status)] = _problems(codes)
    if op.path == routes.JOB_EXECUTION:
        mark = f"{routes.ORIGIN_HEADER}: {routes.EXECUTION_ORIGIN}"
        what = f"What the Execution API answered; marked by the header `{mark}`."
        found["default"] = {"description": what}
    return found


def _problems(codes: list[ErrorCode]) -> dict[str, Any]:
    only = {"properties": {"code": {"enum": [str(code) for code in codes]}}}
    return {
        "description": "; ".join(f"`{code}`: {ERRORS[code].title}" for code in codes),
        "content": {routes.PROBLEM_TYPE: {"schema": {"allOf": [_ref(Problem), only]}}},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _SCHEMA_REF.format(model=model.__name__)}


def _bearer(description: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": description}
