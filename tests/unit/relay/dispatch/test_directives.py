"""What a poll is told, for every state of a record and every phase that a worker may report."""

from datetime import UTC, datetime

import pytest

from edge_relay.dispatch.directives import directives, is_start_repeated
from edge_relay.dispatch.state.watched_job import may_need_stop, watched_job
from edge_schemas.life.events import Event, Finish, GiveUp, Release, ReportUserCode, Start, Withdraw
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerVersions
from edge_schemas.wire.workers import WorkerSettings
from support.relay.jobs import make_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = WorkerSettings(version=3, queues=("default",))
GRANTED, RUNNING, FINISHING = JobPhase.GRANTED, JobPhase.RUNNING, JobPhase.FINISHING
WAITING: list[Event] = []
PARKED: list[Event] = [Release("x", "no", True, NOW)] * 5
MINE: list[Event] = [Start("me", 1, NOW)]
THEIRS: list[Event] = [Start("they", 1, NOW)]
STOPPING = [*MINE, Withdraw("cleared", NOW)]
ENDED = [*MINE, Finish("me", 0, None, NOW)]
TAKEN_BACK = [*MINE, GiveUp("silence", NOW)]


def record(events: list[Event]) -> JobRecord:
    found = new_record(make_job())
    for event in events:
        found = transition(found, event)
    return found


def poll(*reports: JobReport, settings_version: int = 3) -> Poll:
    versions = WorkerVersions(agent="", python="", platform="")
    return Poll(
        protocol=1,
        incarnation=1,
        seq=1,
        slots=1,
        free=1,
        versions=versions,
        jobs=reports,
        settings_version=settings_version,
    )


@pytest.mark.parametrize(
    ("events", "phase", "told"),
    [
        (WAITING, GRANTED, None),
        (WAITING, RUNNING, "drop"),
        (WAITING, FINISHING, "drop"),
        (TAKEN_BACK, RUNNING, "drop"),
        (TAKEN_BACK, GRANTED, None),
        (PARKED, GRANTED, "drop"),
        (MINE, GRANTED, None),
        (MINE, RUNNING, None),
        (MINE, FINISHING, None),
        (THEIRS, GRANTED, "drop"),
        (THEIRS, RUNNING, "drop"),
        (STOPPING, GRANTED, "stop"),
        (STOPPING, RUNNING, "stop"),
        (STOPPING, FINISHING, None),
        (ENDED, GRANTED, "drop"),
        (ENDED, RUNNING, "drop"),
        (ENDED, FINISHING, "drop"),
        (None, RUNNING, "drop"),
        (None, GRANTED, "drop"),
    ],
)
def test_stop_directives(events: list[Event] | None, phase: JobPhase, told: str | None) -> None:
    found = None if events is None else record(events)
    report = JobReport(id=make_job().id if found is None else found.id, phase=phase)
    said = directives("me", poll(report), {report.id: found}, SETTINGS)
    assert [("drop" if one.drop else "stop") for one in said.stop] == ([told] if told else [])
    assert bool(said) is (told is not None)
    if told == "stop":
        assert said.stop[0].reason == "cleared"
    watched = None if found is None else watched_job(found.id, found.model_dump_json().encode())
    assert may_need_stop("me", report, watched) is (told is not None), "the mirror shows the same jobs"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([*MINE, ReportUserCode("me", "h", 1, NOW), GiveUp("no contact for 900 s", NOW)], "no contact for 900 s"),
        ([Withdraw("cancelled by operator ann: wrong data", NOW)], "cancelled by operator ann: wrong data"),
    ],
)
def test_a_worker_that_comes_back_late_is_told_why_its_job_has_ended(events: list[Event], why: str) -> None:
    found = record(events)
    said = directives("me", poll(JobReport(id=found.id, phase=RUNNING)), {found.id: found}, SETTINGS)
    assert said.stop[0].reason == f"the job has ended: {why}"


def test_a_conflict_is_told_until_the_agent_reports_it_and_its_end_likewise() -> None:
    seen = AgentSeen(instance="a", incarnation=1, seq=1, arrival="x", host="h", address="", last_poll_at=NOW)
    conflict = CredentialConflict(older=seen, newer=seen, since=NOW)
    in_conflict = poll().model_copy(update={"in_conflict": True})
    assert directives("me", poll(), {}, SETTINGS, conflict=conflict).conflict == conflict
    assert not directives("me", in_conflict, {}, SETTINGS, conflict=conflict)
    assert directives("me", in_conflict, {}, SETTINGS).conflict_resolved
    assert not directives("me", poll(), {}, SETTINGS)


def test_that_the_other_agent_polled_again_is_no_news() -> None:
    """Else an agent that does not know the word would poll without a pause."""
    seen = AgentSeen(instance="a", incarnation=1, seq=1, arrival="x", host="h", address="", last_poll_at=NOW)
    once = CredentialConflict(older=seen, newer=seen, since=NOW)
    later = once.model_copy(update={"older": seen.model_copy(update={"seq": 2})})
    gists = [directives("me", poll(), {}, SETTINGS, conflict=conflict).fingerprint for conflict in (once, later)]
    assert gists[0] == gists[1]


def test_a_job_that_could_not_be_looked_up_is_left_alone() -> None:
    """No record because nobody could be asked is not the same as no record."""
    said = directives("me", poll(JobReport(id=make_job().id, phase=RUNNING)), {}, SETTINGS)
    assert not said


def test_settings_are_told_to_who_has_others() -> None:
    """Also to a worker that claims a higher version: the centre decides."""
    for version in (0, 2, 4):
        assert directives("me", poll(settings_version=version), {}, SETTINGS).settings == SETTINGS
    assert directives("me", poll(), {}, SETTINGS).settings is None


def test_a_message_of_a_job_that_this_worker_holds_is_a_repeated_start() -> None:
    mine, theirs, waiting = record(MINE), record(THEIRS), record(WAITING)
    assert is_start_repeated("me", mine)
    assert not is_start_repeated("me", theirs)
    assert not is_start_repeated("me", waiting)
    assert not is_start_repeated("me", None)
