"""What is described of one method of one path, and the problem codes that many of them share."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from edge_schemas.admin.access import Role
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
