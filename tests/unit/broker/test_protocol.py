"""JetStream's protocol: statuses, errors, conditional appends and stored messages, without a server."""

import base64
from collections.abc import Mapping
from typing import Any, cast

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import (
    NO_MESSAGE,
    WRONG_LAST_SEQUENCE,
    BrokerUnavailable,
    JetStreamError,
    StreamFull,
    SubjectOccupied,
    check_error,
)
from edge_broker.jetstream.append import Appended, SequenceConflict, append, publish_once
from edge_broker.jetstream.consumer import PullStatus, StatusKind
from edge_broker.jetstream.stored import last_message

FULL = "maximum messages exceeded"
OCCUPIED = "maximum messages per subject exceeded"


class FakeBroker:
    """Answers each call with one thing, and keeps the last call."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.headers: Mapping[str, str] = {}

    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> Any:
        self.headers = headers
        return self._answered()

    async def api(self, call: str, body: Mapping[str, object] | None = None) -> Any:
        return self._answered()

    def _answered(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def as_broker(fake: FakeBroker) -> Broker:
    return cast("Broker", fake)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (100, StatusKind.HEARTBEAT),
        (404, StatusKind.COMPLETED),
        (408, StatusKind.COMPLETED),
        (503, StatusKind.NO_CONSUMER),
        (409, StatusKind.REJECTED),
        (400, StatusKind.REJECTED),
        (0, StatusKind.REJECTED),
    ],
)
def test_what_a_status_means_for_its_pull(code: int, kind: StatusKind) -> None:
    assert PullStatus(1, code).kind is kind


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": 400, "err_code": 10077, "description": FULL}, StreamFull),
        ({"code": 400, "err_code": 10077, "description": OCCUPIED}, SubjectOccupied),
        ({"code": 404, "err_code": NO_MESSAGE, "description": "no message found"}, JetStreamError),
        ({"code": 503, "err_code": 10118, "description": "no quorum"}, BrokerUnavailable),
        ({"code": 503, "err_code": 10076, "description": "not enabled"}, BrokerUnavailable),
        ({"code": 503, "err_code": NO_MESSAGE, "description": "of another kind"}, JetStreamError),
        ({}, None),
        (None, None),
    ],
)
def test_errors_of_the_server_have_types(error: dict[str, object] | None, raised: type[Exception] | None) -> None:
    if raised is None:
        check_error(error)
        return
    with pytest.raises(raised) as found:
        check_error(error)
    assert type(found.value) is raised


async def test_an_append_names_the_message_that_must_be_the_last() -> None:
    broker = FakeBroker(8)
    assert await append(as_broker(broker), "s", b"", after=7, life_s=60, headers={"Own": "x"}) == Appended(8)
    assert broker.headers == {"Own": "x", "Nats-Expected-Last-Subject-Sequence": "7", "Nats-TTL": "60s"}
    await append(as_broker(broker), "s", b"", after=None)
    assert broker.headers == {}


async def test_another_last_message_is_a_result_and_every_other_error_is_raised() -> None:
    other = FakeBroker(JetStreamError(WRONG_LAST_SEQUENCE, "wrong last sequence: 9"))
    assert await append(as_broker(other), "s", b"", after=7) == SequenceConflict()
    full = FakeBroker(StreamFull(10077, FULL))
    with pytest.raises(StreamFull):
        await append(as_broker(full), "s", b"", after=7)


async def test_a_message_that_is_there_already_is_published() -> None:
    there = FakeBroker(SubjectOccupied(10077, OCCUPIED))
    await publish_once(as_broker(there), "s", b"", message_id="m")
    assert there.headers == {"Nats-Msg-Id": "m"}
    with pytest.raises(StreamFull):
        await publish_once(as_broker(FakeBroker(StreamFull(10077, FULL))), "s", b"", message_id="m")


async def test_a_stored_message_is_read_with_its_headers() -> None:
    raw = b"NATS/1.0\r\nEdge-Offset: 12\r\nEmpty:\r\nKV-Operation:DEL\r\n\r\n"
    message = {
        "subject": "s",
        "seq": 3,
        "time": "2026-11-22T20:46:03.88463573Z",
        "hdrs": base64.b64encode(raw).decode(),
        "data": base64.b64encode(b"body").decode(),
    }
    found = await last_message(FakeBroker({"message": message}), "S", "s")
    assert found is not None
    assert (found.subject, found.sequence, found.data) == ("s", 3, b"body")
    assert found.headers == {"Edge-Offset": "12", "Empty": "", "KV-Operation": "DEL"}
    assert found.stored_at.isoformat() == "2026-11-22T20:46:03.884635+00:00"


async def test_headers_and_body_may_be_missing() -> None:
    bare = {"subject": "s", "seq": 3, "time": "2026-11-22T20:46:03Z"}
    found = await last_message(FakeBroker({"message": bare}), "S", "s")
    assert found is not None
    assert (found.headers, found.data) == ({}, b"")
    assert await last_message(FakeBroker(JetStreamError(NO_MESSAGE, "no message found")), "S", "s") is None
