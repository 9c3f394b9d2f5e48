"""What a consumer reports after a handler, for each way of its end and each reason of a stop."""

import asyncio

import pytest

from edge_schemas.wire.content import MAX_CONTENT_BYTES, TEXT
from edge_schemas.wire.job_calls import MAX_FINISH_BYTES
from edge_worker.client import Reject, Retry
from edge_worker.client.ending import LONGEST_RETRY_S, Again, Finished, Stop, StopKind, ending_of

_STOPPED = asyncio.CancelledError()
_WHY = "because"


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        (StopKind.WITHDRAWN, Finished(reason=_WHY)),
        (StopKind.RELEASED, Finished(reason=_WHY, release=True)),
        (StopKind.DROPPED, None),
    ],
)
def test_a_stopped_handler(kind: StopKind, ending: Finished | None) -> None:
    assert ending_of(None, _STOPPED, Stop(kind, _WHY), attempt=1) == ending


@pytest.mark.parametrize("kind", [StopKind.WITHDRAWN, StopKind.RELEASED])
def test_a_handler_that_has_succeeded_all_the_same_has_succeeded(kind: StopKind) -> None:
    """The relay decides whether that still counts."""
    assert ending_of(None, None, Stop(kind, _WHY), attempt=1) == Finished(0)


def test_a_job_that_is_not_held_is_never_reported() -> None:
    for error in (None, Reject("no"), Retry(), LookupError()):
        assert ending_of(None, error, Stop(StopKind.DROPPED, _WHY), attempt=1) is None


def test_a_stopped_handler_may_reject_but_not_retry() -> None:
    """A job that is to stop can't wait again."""
    stop = Stop(StopKind.WITHDRAWN, _WHY)
    assert ending_of(None, Reject("no"), stop, attempt=1) == Finished(1, "no")
    assert ending_of(None, Retry(5), stop, attempt=1) == Finished(reason=_WHY)


def test_the_delay_after_an_error_grows_up_to_a_limit() -> None:
    delays = []
    for attempt in (1, 2, 3, 100):
        ending = ending_of(None, LookupError("x"), None, attempt=attempt)
        assert isinstance(ending, Again)
        delays.append(ending.delay_s)
    assert delays == [2, 4, 8, LONGEST_RETRY_S]


def test_reasons_are_never_too_long_or_empty_for_the_wire() -> None:
    long = ending_of(None, LookupError("x" * 5000), None, attempt=1)
    assert isinstance(long, Again)
    assert len(long.reason) == 500
    for error in (Retry(reason=""), Reject("")):
        ending = ending_of(None, error, None, attempt=1)
        assert ending is not None
        assert ending.reason


def test_a_delay_beyond_the_limit_is_an_error_of_the_handler() -> None:
    with pytest.raises(ValueError, match="delay_s"):
        Retry(13 * 3600)


@pytest.mark.parametrize("error", [LookupError("caf\udce9"), Retry(reason="caf\udce9"), Reject("caf\udce9")])
def test_a_reason_that_is_no_unicode_is_escaped(error: Exception) -> None:
    """A file name that is not UTF-8, for example: the report of one job must not end the others."""
    ending = ending_of(None, error, None, attempt=1)
    assert ending is not None
    assert ending.reason is not None
    assert ending.reason.endswith(r"caf\udce9")


def test_a_text_that_json_would_double_is_sent_as_bytes() -> None:
    """256 KiB fit into the report, whatever they are."""
    text = "\x1b" * MAX_CONTENT_BYTES
    ending = ending_of(text, None, None, attempt=1)
    assert isinstance(ending, Finished)
    assert ending.result is not None
    assert ending.result.text is None
    assert (ending.result.body, ending.result.content_type) == (text.encode(), TEXT)
    assert len(ending.result.model_dump_json()) < MAX_FINISH_BYTES


def test_a_result_that_is_no_unicode_fails_the_job() -> None:
    assert ending_of("caf\udce9", None, None, attempt=1) == Finished(1, "the result is no valid Unicode: return bytes")
