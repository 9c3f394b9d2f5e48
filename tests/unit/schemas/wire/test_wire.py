"""Names, paths and signatures of the wire: what is allowed, what is refused, and that encodings can be reversed."""

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edge_broker import subjects
from edge_schemas.gate.auth import GateCall, check_answer, check_call, sign_answer, sign_call
from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode
from edge_schemas.wire.ids import (
    MAX_TOKEN_CHARS,
    QueueName,
    SiteName,
    TeamName,
    WorkerName,
    decode_name,
    encode_name,
)
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret

QUEUE = TypeAdapter(QueueName)
TEAM = TypeAdapter(TeamName)
SITE = TypeAdapter(SiteName)
WORKER = TypeAdapter(WorkerName)
KEY = b"k" * 32


@given(st.text(min_size=1, max_size=60))
def test_every_name_survives_encoding(name: str) -> None:
    """One token of a subject, whatever the name holds, and back again."""
    try:
        token = encode_name(name)
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    assert not set(token) & set(". *>/\\ \t\n")
    assert not token.startswith("-")
    assert decode_name(token) == name


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@example("a", "-b")
@example("_", "_")
def test_two_queues_never_share_a_consumer(one: str, other: str) -> None:
    """Nor do two kinds of jobs in a queue."""
    queues = {(None, one), (None, other), (one, other)}
    try:
        names = {subjects.consumer_name(*queue, kind) for queue in queues for kind in JobKind}
    except UnicodeEncodeError:
        return
    assert len(names) == len(queues) * len(JobKind)
    for queue in queues:
        assert subjects.parse_queue_token(subjects.queue_token(*queue)) == queue


def test_nats_allows_the_longest_consumer_name() -> None:
    """Of the longest names that are allowed; NATS refuses a consumer whose name has more than 255 characters."""
    team, queue = TEAM.validate_python("_" * 11 + "x" * 39), QUEUE.validate_python("_" * 54)
    assert max(len(subjects.consumer_name(team, queue, kind)) for kind in JobKind) <= 255
    with pytest.raises(ValidationError, match="choose a shorter name"):
        TEAM.validate_python("_" * 25)
    with pytest.raises(ValidationError, match="choose a shorter name"):
        QUEUE.validate_python("_" * 55)


def test_a_subject_tells_queue_kind_and_job() -> None:
    job = "0b9f1e6e-6f0c-4d39-9a3a-6f2f0c6a0a11"
    for team, kind in product((None, "team a"), JobKind):
        subject = subjects.job_subject(team, "a.b*", kind, job)
        assert subjects.parse_job_subject(subject) == (team, "a.b*", kind, job)


def test_the_subject_of_a_task_has_no_kind() -> None:
    """Queues of tasks have had these names from the beginning."""
    assert subjects.job_subject(None, "q", JobKind.TASK, "j") == "edge.jobs.-.q.j"
    assert subjects.consumer_name(None, "q", JobKind.TASK) == "q"
    for odd in ("edge.jobs.-.q.task.j", "edge.jobs.-.q.unknown.j", "edge.jobs.-.q.command.x.j", "edge.logs.-.q.j"):
        with pytest.raises(ValueError, match=r"subject|JobKind"):
            subjects.parse_job_subject(odd)


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "a\x00b", "x" * 101, "ä" * 100, "\ud800"])
def test_impossible_queue_names_are_refused(name: str) -> None:
    with pytest.raises((ValidationError, UnicodeEncodeError)):
        QUEUE.validate_python(name)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (SITE, "Plant.7", "must be a DNS label: lower-case letters, digits and inner hyphens, at most 63"),
        (SITE, "x\n", "must be a DNS label: lower-case letters, digits and inner hyphens, at most 63"),
        (WORKER, "x" * 64, "must be a DNS label: lower-case letters, digits and inner hyphens, at most 63"),
        (QUEUE, "", "must have 1 to 100 characters, no white space at either end and no control characters"),
        (QUEUE, "x" * 101, "must have 1 to 100 characters, no white space at either end and no control characters"),
        (QUEUE, "a\nb", "must have 1 to 100 characters, no white space at either end and no control characters"),
        (QUEUE, "ü" * 100, "is longer than 164 characters once encoded for a NATS subject; choose a shorter name"),
        (TEAM, "x ", "must have 1 to 50 characters, no white space at either end and no control characters"),
    ],
)
def test_a_refused_name_is_told_what_is_allowed(kind: TypeAdapter[str], name: str, words: str) -> None:
    """In words: whoever types a name at a prompt does not read patterns."""
    with pytest.raises(ValidationError) as refusal:
        kind.validate_python(name)
    assert [error["msg"] for error in refusal.value.errors()] == [words]


@pytest.mark.parametrize("name", ["default", "a.b", "*", ">", "Halle 3 / Süd", "x" * 100])
def test_unusual_queue_names_are_served(name: str) -> None:
    assert QUEUE.validate_python(name) == name
    assert len(encode_name(name)) <= MAX_TOKEN_CHARS


def test_gate_signatures_cover_everything_that_is_decided_upon() -> None:
    call = GateCall("PATCH", "/gate/v1/jobs/j/execution/x?y=1", "north", "request-1", b"{}")
    header, nonce = sign_call(KEY, call, now=1000.0)
    assert check_call(KEY, call, header, now=1030.0) == nonce
    for forged in (
        GateCall("PUT", call.target, call.worker, call.request_id, call.body),
        GateCall(call.method, "/other", call.worker, call.request_id, call.body),
        GateCall(call.method, call.target, "south", call.request_id, call.body),
        GateCall(call.method, call.target, call.worker, "request-2", call.body),
        GateCall(call.method, call.target, call.worker, call.request_id, b"{ }"),
    ):
        assert check_call(KEY, forged, header, now=1000.0) is None
    assert check_call(b"other", call, header, now=1000.0) is None
    assert check_call(KEY, call, header, now=1100.0) is None
    for nonsense in ("", "v1", "v1;x;y;z", "v1;٣;n;m", header + "ä"):
        assert check_call(KEY, call, nonsense, now=1000.0) is None
    answer = sign_answer(KEY, nonce, 200, b"body")
    assert check_answer(KEY, nonce, 200, b"body", answer)
    assert not check_answer(KEY, "other", 200, b"body", answer)
    assert not check_answer(KEY, nonce, 500, b"body", answer)


def test_secrets_say_what_they_open_and_only_their_hash_is_kept() -> None:
    secret = new_secret(SecretKind.WORKER)
    assert secret.startswith("erw_")
    assert len(secret) >= 47
    assert hash_secret(secret) != hash_secret(new_secret(SecretKind.WORKER))
    assert secret not in hash_secret(secret)


def test_every_code_is_in_the_table() -> None:
    assert set(ERRORS) == set(ErrorCode)
    problem = EdgeError(ErrorCode.OFFSET_MISMATCH, "rewind", expected_offset=7).problem("request-1")
    assert (problem.status, problem.code, problem.expected_offset, problem.request_id) == (
        409,
        "offset_mismatch",
        7,
        "request-1",
    )
