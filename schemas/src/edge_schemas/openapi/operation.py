"""What is described of one method of one path, and the problem codes that many of them share."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from edge_schemas.admin.access import Role
from edge_schemas.admin.actions import ActionResult
from edge_schemas.wire.errors import ErrorCode

WORKER, ENROLLMENT, ACCESS = "workerSecret", "enrollmentToken", "accessToken"
"""Kinds of bearer."""
_E = ErrorCode
CALL = (_E.INVALID_REQUEST, _E.UNAUTHENTICATED, _E.RATE_LIMITED, _E.BROKER_UNAVAILABLE, _E.DRAINING)
BODY = (_E.PAYLOAD_TOO_LARGE, _E.UNSUPPORTED_MEDIA_TYPE)
OPERATOR_CALL = (*CALL, _E.CREDENTIAL_REVOKED, _E.FORBIDDEN, _E.PROVIDER_UNAVAILABLE)
"""What every call of an operator may meet."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        answers: Status of a good answer to its model; None where there is no body.
        errors: Codes it may answer with, besides those that every call may meet.
        query: Its query parameters.
        role: The least role of an operator that it needs; None for calls of others, and for the ways to sign in.
        admin_actions: Those of its actions, by `do`, that need the role admin instead.
        media_type: Of a good answer that is bytes.
    """

    method: str
    path: str
    id: str
    summary: str
    tag: Literal["workers", "producers", "operators", "health"]
    answers: dict[int, type[BaseModel] | None]
    security: str | None = None
    request: type[BaseModel] | None = None
    errors: tuple[ErrorCode, ...] = ()
    query: type[BaseModel] | None = None
    role: Role | None = None
    admin_actions: tuple[str, ...] = ()
    media_type: str | None = None


def read_operation(
    path: str,
    name: str,
    summary: str,
    answer: type[BaseModel],
    query: type[BaseModel] | None = None,
    *,
    errors: tuple[ErrorCode, ...] = (),
    role: Role = Role.VIEWER,
    is_conditional: bool = False,
) -> Operation:
    """What an operator reads: a list with its query, or one thing.

    Args:
        path: Of the call.
        name: Its `id`.
        summary: In one line.
        answer: A page of a list, or the thing.
        query: The filters of a list.
        errors: Besides those of every operator's call.
        role: The least one.
        is_conditional: Its answers have an ETag.
    """
    answers: dict[int, type[BaseModel] | None] = {200: answer}
    if is_conditional:
        answers[304] = None
    return Operation(
        "get",
        path,
        name,
        summary,
        "operators",
        answers,
        ACCESS,
        errors=(*OPERATOR_CALL, *errors),
        query=query,
        role=role,
    )


def action_operation(
    path: str,
    name: str,
    summary: str,
    request: type[BaseModel],
    *,
    errors: tuple[ErrorCode, ...] = (),
    admin_actions: tuple[str, ...] = (),
) -> Operation:
    """What an operator does to one or many targets; arguments as for `read_operation`.

    An error about one target is in the result, not an answer of its own.
    """
    return Operation(
        "post",
        path,
        name,
        summary,
        "operators",
        {200: ActionResult},
        ACCESS,
        request,
        (*OPERATOR_CALL, *BODY, *errors),
        role=Role.OPERATOR,
        admin_actions=admin_actions,
    )
