"""Problem codes: one table from code to HTTP status, what it means and what the worker does.

The code is the contract; title and detail are for people and may change. Bodies follow RFC 9457
(`application/problem+json`) with `code`, `retryable` and `request_id` added.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_schemas.wire.base import Outbound


class ErrorCode(StrEnum):
    """Stable names of all that can be wrong with a call."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    CREDENTIAL_REVOKED = "credential_revoked"
    ENROLLMENT_REFUSED = "enrollment_refused"
    FORBIDDEN = "forbidden"
    JOB_NOT_SIGNED = "job_not_signed"
    POLICY_DENIED = "policy_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_HOLDER = "not_holder"
    WRONG_STATE = "wrong_state"
    OFFSET_MISMATCH = "offset_mismatch"
    RECEIPT_EXPIRED = "receipt_expired"
    KEY_REUSED = "key_reused"
    SUPERSEDED = "superseded"
    TAKEOVER_PENDING = "takeover_pending"
    JOB_ENDED = "job_ended"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    PATH_TOO_LONG = "path_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PROTOCOL_UNSUPPORTED = "protocol_unsupported"
    RATE_LIMITED = "rate_limited"
    DRAINING = "draining"
    BROKER_UNAVAILABLE = "broker_unavailable"
    GATE_UNAVAILABLE = "gate_unavailable"
    RELAY_UNAVAILABLE = "relay_unavailable"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A row of the table.

    Attributes:
        status: The HTTP status it travels with.
        retryable: The same call may succeed later; the caller keeps what it wanted to send.
        title: One line for people.
        worker_does: What an agent does on receiving it.
    """

    status: int
    retryable: bool
    title: str
    worker_does: str


_E = ErrorCode
ERRORS: dict[ErrorCode, ErrorKind] = {
    _E.INVALID_REQUEST: ErrorKind(400, False, "The request is malformed", "logs a bug, drops the call"),
    _E.UNAUTHENTICATED: ErrorKind(
        401, True, "The credential is missing or unknown", "keeps its jobs, asks again slowly"
    ),
    _E.CREDENTIAL_REVOKED: ErrorKind(
        401, False, "The credential was revoked", "asks twice, drains, exits without jobs"
    ),
    _E.ENROLLMENT_REFUSED: ErrorKind(
        403, False, "The enrolment token is unknown, expired or used up", "exits and asks for a new token"
    ),
    _E.FORBIDDEN: ErrorKind(403, False, "Not allowed", "logs it, continues"),
    _E.JOB_NOT_SIGNED: ErrorKind(
        403, False, "The executor has not signed the job, or it was altered", "fails the call, the task gets the reason"
    ),
    _E.POLICY_DENIED: ErrorKind(
        403, False, "A policy does not allow the job to use this", "fails the task's call, with the policy in its log"
    ),
    _E.NOT_FOUND: ErrorKind(404, False, "No such resource", "drops the call"),
    _E.METHOD_NOT_ALLOWED: ErrorKind(
        405, False, "The resource does not know this method", "logs a bug, drops the call"
    ),
    _E.NOT_HOLDER: ErrorKind(409, False, "Another worker holds the job", "stops the job, reports nothing"),
    _E.WRONG_STATE: ErrorKind(
        409,
        False,
        "The job is not in a state that allows this",
        "stops the job and reports its end; after a first start, forgets the grant",
    ),
    _E.OFFSET_MISMATCH: ErrorKind(409, False, "Log bytes are missing before this offset", "rewinds to expected_offset"),
    _E.RECEIPT_EXPIRED: ErrorKind(409, False, "The receipt is no longer valid", "drops the grant"),
    _E.KEY_REUSED: ErrorKind(
        409, False, "The idempotency key names another submission of this queue", "never receives it"
    ),
    _E.SUPERSEDED: ErrorKind(409, False, "A newer poll of this worker has arrived", "drops the answer of this poll"),
    _E.TAKEOVER_PENDING: ErrorKind(
        409, True, "An older agent of this worker may still have the job", "waits Retry-After, asks again"
    ),
    _E.JOB_ENDED: ErrorKind(410, False, "The job has ended or is unknown", "stops and drops the job"),
    _E.PAYLOAD_TOO_LARGE: ErrorKind(413, False, "The body is too large", "splits it or fails the job"),
    _E.PATH_TOO_LONG: ErrorKind(414, False, "Path and query are too long", "fails the task's call"),
    _E.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, False, "The content type or encoding is not served", "logs a bug"),
    _E.PROTOCOL_UNSUPPORTED: ErrorKind(
        426, False, "The protocol version is not served", "finishes its jobs, takes no new ones"
    ),
    _E.RATE_LIMITED: ErrorKind(429, True, "Too many requests", "waits Retry-After"),
    _E.DRAINING: ErrorKind(503, True, "This relay is shutting down", "polls again within seconds"),
    _E.BROKER_UNAVAILABLE: ErrorKind(503, True, "The message broker cannot be reached", "waits Retry-After"),
    _E.GATE_UNAVAILABLE: ErrorKind(503, True, "The gate to the Execution API cannot be reached", "waits Retry-After"),
    _E.RELAY_UNAVAILABLE: ErrorKind(
        503, True, "The relay can't be used from Airflow", "never receives it: the page in Airflow's UI answers with it"
    ),
    _E.PROVIDER_UNAVAILABLE: ErrorKind(503, True, "The identity provider cannot be reached", "never receives it"),
    _E.INTERNAL: ErrorKind(500, True, "An unexpected error", "backs off"),
}


TOO_LARGE_STATUSES = frozenset({413, 414, 431})
"""With which any HTTP server refuses a request for its size. The same request is refused again."""


class Problem(Outbound):
    """The body of every error answer."""

    type: str
    title: str
    status: int
    code: str
    retryable: bool
    detail: str | None = None
    request_id: str | None = None
    expected_offset: int | None = None
    superseded_by: int | None = None
    retry_after_s: float | None = None


class EdgeError(Exception):
    """An error with its code. Raised in domain code, turned into a `Problem` in one place.

    Args:
        code: Row of the table.
        detail: What is wrong and what to do, for a person. No secret.
        extra: Further fields of `Problem`, for example `expected_offset`.
    """

    def __init__(self, code: ErrorCode, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail or ERRORS[code].title)
        self.code = code
        self.detail = detail
        self.extra = extra

    def problem(self, request_id: str | None = None) -> Problem:
        """The body to answer with."""
        kind = ERRORS[self.code]
        return Problem(
            type=f"urn:edge-relay:problem:{self.code}",
            title=kind.title,
            status=kind.status,
            code=self.code,
            retryable=kind.retryable,
            detail=self.detail,
            request_id=request_id,
            **self.extra,
        )
