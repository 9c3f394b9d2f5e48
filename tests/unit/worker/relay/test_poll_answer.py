"""An answer with a part that this version can't read: the other parts count, and the job is released."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_schemas.wire.polls import Grant, PollAnswer, StopDirective
from edge_schemas.wire.workers import WorkerSettings
from edge_worker.relay.call_result import NoAnswer, Reply
from edge_worker.relay.poll_answer import UnreadableGrant, read_answer
from support.relay.jobs import make_job

GOOD = PollAnswer(
    grants=(Grant(job=make_job(), receipt="r", expires_at="2026-11-29T12:00:00Z"),),  # type: ignore[arg-type]  # as JSON
    stop=(StopDirective(job=str(uuid.uuid4()), reason="why"),),
    settings=WorkerSettings(version=7, queues=("q",)),
)
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def reply(body: object) -> Reply:
    return Reply(200, {}, json.dumps(body).encode())


def good() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(GOOD.model_dump_json(exclude_none=True))
    return body


def test_a_grant_of_a_later_version_hides_nothing_and_can_be_released() -> None:
    body = good()
    later = {**body["grants"][0], "job": {**body["grants"][0]["job"], "work": {"kind": "of a later version"}}}
    body["grants"].insert(0, later)
    read = read_answer(reply(body))
    assert read.answer == GOOD
    assert read.unreadable == (UnreadableGrant(later["job"]["id"], "r"),)


def test_a_lone_surrogate_concerns_its_job_only() -> None:
    raw = GOOD.model_dump_json(exclude_none=True).replace('"workload":{}', '"workload":{"a":"\\udce9"}')
    read = read_answer(Reply(200, {}, raw.encode()))
    assert (read.answer.grants, read.answer.stop) == ((), GOOD.stop)
    assert [grant.job for grant in read.unreadable] == [GOOD.grants[0].job.id]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    with pytest.raises(NoAnswer):
        read_answer(Reply(200, {}, body))


@given(name=st.sampled_from([*PollAnswer.model_fields, "of a later version"]), value=JSON_LIKE)
def test_any_part_may_be_anything(name: str, value: object) -> None:
    body = good() | {name: value}
    read = read_answer(reply(body))
    for other in {"grants", "stop", "settings"} - {name}:
        assert getattr(read.answer, other) == getattr(GOOD, other)


@given(odd=st.lists(JSON_LIKE, max_size=3), where=st.sampled_from(["grants", "stop"]))
def test_odd_items_hide_no_good_one(odd: list[object], where: str) -> None:
    body = good()
    body[where] = [*odd, *body[where], *odd]
    assert read_answer(reply(body)).answer == GOOD
