"""How a worker is shown to operators."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_relay.desired.state import CurrentOrder
from edge_relay.fleet.workers.index import WorkerView, state_of
from edge_relay.fleet.workers.missing import what_is_missing
from edge_relay.fleet.workers.problems import NO_RUNTIME
from edge_relay.fleet.workers.rows import worker_row
from edge_relay.metrics.last_poll import last_poll
from edge_schemas.admin.desired import AvailabilityOrder
from edge_schemas.admin.rows import WorkerRow
from edge_schemas.life.versions import RUNTIME_NOT_READY
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import Availability, WorkerAccess, WorkerSettings, WorkerState
from support.relay.jobs import make_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCESS = WorkerAccess(
    worker="plant-1",
    secret_hash="0" * 64,
    site="plant",
    settings=WorkerSettings(version=1, queues=("default",)),
    hostname="at enrolment",
    enrolled_at=NOW,
)
AGENT = AgentSeen(
    instance="a", incarnation=1, seq=1, arrival="x", host="press-4", address="192.0.2.7", last_poll_at=NOW
)
ENTRY = WorkerEntry(
    worker="plant-1",
    site="plant",
    agent=AGENT,
    relay="r",
    poll_timeout_s=50,
    slots=2,
    free=1,
    draining=False,
    jobs=(),
    versions=WorkerVersions(agent="", python="", platform=""),
    health=WorkerHealth(),
)


def shown(
    entry: WorkerEntry | None,
    *,
    access: WorkerAccess = ACCESS,
    order: CurrentOrder | None = None,
    silence_s: float = 0,
    centre: str | None = None,
) -> WorkerRow:
    """The row of a worker that has been silent for so long."""
    view = viewed(entry, access=access, order=order, silence_s=silence_s)
    return worker_row(view, entry, (), centre, NOW + timedelta(seconds=silence_s))


def viewed(
    entry: WorkerEntry | None,
    *,
    access: WorkerAccess = ACCESS,
    order: CurrentOrder | None = None,
    silence_s: float = 0,
) -> WorkerView:
    poll = None if entry is None else last_poll(entry, 0, NOW)
    availability = Availability.ACTIVE if order is None else order.order.availability
    settings = access.settings.model_copy(update={"availability": availability})
    return WorkerView(access, settings, {}, order, "", poll, state_of(access, settings, poll, silence_s))


def missing(entry: WorkerEntry) -> tuple[str, ...]:
    """What keeps the worker from running jobs."""
    return what_is_missing(viewed(entry), entry, None, {}, frozenset())


def ordered(availability: Availability) -> CurrentOrder:
    return CurrentOrder(AvailabilityOrder(availability=availability, reason="r", by="ann", since=NOW), of_site=False)


def test_what_an_operator_decided_or_must_decide_comes_first() -> None:
    in_conflict = ENTRY.model_copy(
        update={"conflict": CredentialConflict(older=AGENT, newer=AGENT, since=NOW), "draining": True}
    )
    drains = ENTRY.model_copy(update={"draining": True})
    unhealthy = ENTRY.model_copy(update={"no_jobs_reason": "the disk is full"})
    revoked = ACCESS.model_copy(update={"revoked_at": NOW})
    paused, drained = ordered(Availability.PAUSED), ordered(Availability.DRAINING)
    for access, entry, order, silence_s, state in (
        (ACCESS, None, None, 0, WorkerState.NEVER_SEEN),
        (ACCESS, ENTRY, None, 0, WorkerState.ONLINE),
        (ACCESS, drains, None, 0, WorkerState.DRAINING),
        (ACCESS, ENTRY, drained, 0, WorkerState.DRAINING),
        (ACCESS, ENTRY, paused, 0, WorkerState.PAUSED),
        (ACCESS, unhealthy, paused, 0, WorkerState.UNHEALTHY),
        (ACCESS, unhealthy, paused, 3600, WorkerState.OFFLINE),
        (ACCESS, in_conflict, paused, 3600, WorkerState.CONFLICT),
        (revoked, in_conflict, None, 0, WorkerState.REVOKED),
        (revoked, None, None, 0, WorkerState.REVOKED),
    ):
        assert shown(entry, access=access, order=order, silence_s=silence_s).state is state


def test_the_shortest_tolerance_of_its_jobs_is_shown() -> None:
    """That of a job whose worker does not say is not known."""
    jobs = tuple(
        JobReport(id=make_job().id, phase=JobPhase.RUNNING, offline=offline)
        for offline in (OfflinePolicy(tolerance_s=600), None, OfflinePolicy(tolerance_s=60))
    )
    assert shown(ENTRY.model_copy(update={"jobs": jobs})).tolerance_s == 60
    assert shown(ENTRY).tolerance_s is None


def test_a_worker_is_where_it_polled_from_last() -> None:
    assert shown(None).hostname == "at enrolment"
    assert shown(ENTRY).hostname == "press-4"
    nameless = AGENT.model_copy(update={"host": "", "address": ""})
    conflict = CredentialConflict(older=AGENT, newer=nameless, since=NOW)
    found = shown(ENTRY.model_copy(update={"conflict": conflict}))
    assert found.conflict == ("press-4 (192.0.2.7)", "unnamed host (address unknown)")


def test_each_problem_is_told_in_words() -> None:
    for changed, problem in (
        ({"health": WorkerHealth(disk_free_bytes=100 << 20)}, "disk nearly full: 100 MiB free"),
        ({"health": WorkerHealth(clock_skew_s=-95.4)}, "its clock is 95 s behind the relay's"),
        ({"versions": WorkerVersions(agent="", python="", platform="")}, "it has no Airflow runtime"),
        ({"versions": WorkerVersions(agent="", python="", platform="", airflow="4.0.0")}, "newer than the centre's"),
        ({"no_jobs_reason": "the disk is full"}, "accepts no jobs: the disk is full"),
        ({"settings_version": 0}, "its settings are not applied: it has version 0, operators want 1"),
    ):
        healthy = {"versions": WorkerVersions(agent="", python="", platform="", airflow="3.1.0")}
        [found] = shown(ENTRY.model_copy(update={**healthy, **changed}), centre="3.1.0").problems
        assert problem in found
    assert shown(ENTRY, silence_s=3 * 3600).problems == ("silent for 3 h",)


@pytest.mark.parametrize(("kind", "problems"), [("task", (NO_RUNTIME,)), ("command", ()), ("payload", ())])
def test_only_tasks_need_a_runtime(kind: str, problems: tuple[str, ...]) -> None:
    without = {"versions": WorkerVersions(agent="", python="", platform=""), "kinds": (kind,)}
    assert shown(ENTRY.model_copy(update=without)).problems == problems


def test_a_worker_without_a_runtime_says_so_once() -> None:
    """Also if its agent gives that as the reason why it accepts no jobs; another reason is shown as well."""
    without = ENTRY.model_copy(update={"versions": WorkerVersions(agent="", python="", platform="")})
    waits = without.model_copy(update={"no_jobs_reason": RUNTIME_NOT_READY})
    assert shown(waits).problems == (NO_RUNTIME,)
    assert missing(waits)[0] == NO_RUNTIME
    assert not any(RUNTIME_NOT_READY in text for text in missing(waits))
    full = without.model_copy(update={"no_jobs_reason": "the disk is full"})
    assert missing(full)[:2] == (NO_RUNTIME, "it accepts no jobs: the disk is full")
    lost = ENTRY.model_copy(
        update={
            "versions": WorkerVersions(agent="", python="", platform="", airflow="3.1.0"),
            "no_jobs_reason": RUNTIME_NOT_READY,
        }
    )
    assert missing(lost)[0] == f"it accepts no jobs: {RUNTIME_NOT_READY}"
