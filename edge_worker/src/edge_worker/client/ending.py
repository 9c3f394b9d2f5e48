"""What is reported after a handler has ended. Decides only."""

from dataclasses import dataclass
from enum import Enum, auto

from pydantic import ValidationError

from edge_schemas.wire.content import MAX_CONTENT_BYTES, SentContent
from edge_worker.client.payload_job import Reject, Retry

MAX_REASON_CHARS = 500
LONGEST_RETRY_S = 300.0


class StopKind(Enum):
    """What is reported of a handler that was stopped."""

    WITHDRAWN = auto()
    """The job ends: its producer, or an operator, no longer wants it."""
    RELEASED = auto()
    """The job is released, because this consumer cannot continue with it."""
    DROPPED = auto()
    """Nothing: this consumer no longer holds the job."""


@dataclass(frozen=True)
class Stop:
    """Why and how a handler was stopped."""

    kind: StopKind
    reason: str


@dataclass(frozen=True)
class Finished:
    """The job is finished; see `EndReport`."""

    exit_code: int | None = None
    reason: str | None = None
    release: bool = False
    result: SentContent | None = None


@dataclass(frozen=True)
class Again:
    """The job is released after its start."""

    reason: str
    delay_s: float


Ending = Finished | Again


def ending_of(result: object, error: BaseException | None, stop: Stop | None, *, attempt: int) -> Ending | None:
    """What to report; None for nothing.

    Args:
        result: What the handler has returned, if it has not raised.
        error: What the handler has raised.
        stop: Why it was stopped before it ended. A handler that has succeeded all the same has succeeded.
        attempt: The number of this attempt.
    """
    if stop is not None and stop.kind is StopKind.DROPPED:
        return None
    if error is None:
        return _succeeded(result)
    if isinstance(error, Reject):
        return Finished(1, _reason(error.reason) or "rejected by its consumer")
    if stop is not None:
        return Finished(reason=_reason(stop.reason), release=stop.kind is StopKind.RELEASED)
    if isinstance(error, Retry):
        return Again(_reason(error.reason) or "the consumer retries it later", error.delay_s)
    reason = f"the handler raised {type(error).__name__}: {error}".rstrip(": ")
    return Again(_reason(reason), min(2.0 ** min(attempt, 16), LONGEST_RETRY_S))


def _reason(text: object) -> str:
    """As JSON can carry it: an error may quote a file name that is not UTF-8, and a handler may raise anything."""
    return str(text).encode(errors="backslashreplace").decode()[:MAX_REASON_CHARS]


def _succeeded(result: object) -> Finished:
    """A result that cannot be sent fails the job: another attempt would do the work again, for the same result."""
    try:
        match result:
            case None:
                return Finished(0)
            case str():
                return Finished(0, result=SentContent.of_text(result))
            case bytes():
                return Finished(0, result=SentContent.of(result))
    except UnicodeEncodeError:
        return Finished(1, "the result is no valid Unicode: return bytes")
    except ValidationError:
        most = MAX_CONTENT_BYTES // 1024
        return Finished(1, f"the result is larger than {most} KiB: store it elsewhere and return a reference")
    return Finished(1, f"the handler returned {type(result).__name__}; a result is bytes, str or None")
