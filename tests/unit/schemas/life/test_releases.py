"""A grant is released once, and a job is not handed out without end."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_broker.records import GROWTH_BYTES
from edge_schemas.life.events import Finish, GiveUp, Redrive, Release, Start, Withdraw
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.life.transition import (
    CUT_REASON_CHARS,
    MAX_RETURNED_GRANTS,
    RELEASES_BEFORE_PARKED,
    WHOLE_REASONS,
    transition,
)
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import MAX_ATTEMPTS
from support.relay.jobs import make_job, payload_job

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize("counted", [True, False])
def test_a_released_grant_neither_releases_again_nor_starts(*, counted: bool) -> None:
    """Whoever replays it would take the job from the worker that has it now."""
    release = Release("a", "no slot", counted, NOW, "grant-a")
    record = transition(new_record(make_job()), release)
    assert transition(record, release) is record
    with pytest.raises(EdgeError) as refused:
        transition(record, Start("a", 1, NOW, "grant-a"))
    assert refused.value.code is ErrorCode.RECEIPT_EXPIRED
    assert transition(record, Start("c", 1, NOW, "grant-c")).state is JobState.RUNNING


def test_releases_that_do_not_count_neither_park_a_job_nor_fill_its_record() -> None:
    record = new_record(make_job())
    for number in range(3 * MAX_RETURNED_GRANTS):
        record = transition(record, Release("a", "no slot", counted=False, at=NOW, grant=str(number)))
    assert (record.parked, record.releases) == (None, ())
    assert len(record.returned_grants) == MAX_RETURNED_GRANTS


def lost(record: JobRecord, number: int, *, silent: bool) -> JobRecord:
    """A worker starts the job and is lost before user code: it is silent, or was restarted without the job."""
    record = transition(record, Start("a", number + 1, NOW, f"grant-{number}"))
    return transition(record, GiveUp("lost", NOW, lacking_incarnation=None if silent else number + 2))


@pytest.mark.parametrize("silent", [True, False])
def test_a_job_whose_workers_are_lost_before_user_code_is_parked_in_the_end(*, silent: bool) -> None:
    """The job may be the cause: one that kills its agent would go round for ever."""
    record = new_record(make_job())
    for number in range(RELEASES_BEFORE_PARKED):
        assert record.parked is None
        record = lost(record, number, silent=silent)
        assert record.state is JobState.WAITING
    assert record.parked == "released 5 times, last: lost"
    with pytest.raises(EdgeError):
        transition(record, Start("b", 1, NOW, "another"))
    assert (
        transition(transition(record, Redrive("fixed", NOW)), Start("b", 1, NOW, "another")).state is JobState.RUNNING
    )


def test_a_worker_that_was_given_up_does_not_end_the_next_hold() -> None:
    record = lost(new_record(make_job()), 0, silent=True)
    record = transition(record, Start("b", 1, NOW, "grant-b"))
    assert transition(record, Finish("a", 0, None, NOW, grant="grant-0")) is record


def test_a_started_payload_is_released_with_the_grant_of_its_start_only() -> None:
    """A late release of a grant that ran out must not end the attempt that the same worker began with another one."""
    record = transition(new_record(payload_job()), Start("a", 1, NOW, "grant-b"))
    with pytest.raises(EdgeError) as refused:
        transition(record, Release("a", "busy", counted=True, at=NOW, grant="grant-a"))
    assert refused.value.code is ErrorCode.RECEIPT_EXPIRED
    released = transition(record, Release("a", "busy", counted=True, at=NOW, grant="grant-b", delay_s=60))
    assert (released.state, released.holder, released.attempt) == (JobState.WAITING, None, 1)
    assert released.not_before == NOW + timedelta(seconds=60)


def test_a_record_does_not_outgrow_its_message_however_often_and_why_its_job_is_released() -> None:
    """JSON writes each character of these reasons with six. The last reasons are whole."""
    record = first = new_record(payload_job(max_attempts=MAX_ATTEMPTS))
    odd = "\x01" * 500
    for number in range(MAX_RETURNED_GRANTS):
        record = transition(record, Release("a", odd, counted=False, at=NOW, grant=f"{number:016}"))
    for number in range(MAX_ATTEMPTS):
        if number < RELEASES_BEFORE_PARKED - 1:
            record = transition(record, Release("a", odd, counted=True, at=NOW, grant=f"c{number:015}"))
        record = transition(record, Start("a", 1, NOW, f"s{number:015}", "k" * 64))
        if number == MAX_ATTEMPTS - 1:
            stopping = transition(record, Withdraw(odd, NOW))
            assert len(stopping.model_dump_json()) - len(first.model_dump_json()) < GROWTH_BYTES
        finish = Finish("a", None, 2 * odd, NOW, release=True, grant=f"s{number:015}")
        record = transition(record, Release("a", odd, True, NOW, f"s{number:015}") if number % 2 else finish)
    assert record.parked is not None
    assert len(record.model_dump_json()) - len(first.model_dump_json()) < GROWTH_BYTES
    assert {note.reason for note in record.releases[-WHOLE_REASONS:]} == {odd}
    assert {len(note.reason) for note in record.releases[:-WHOLE_REASONS]} == {CUT_REASON_CHARS}
    assert all(record.was_released(f"s{number:015}") for number in range(MAX_ATTEMPTS))
