"""How a worker is shown to operators."""

from datetime import UTC, datetime, timedelta

from edge_relay.workers.summary import summary
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings, WorkerState
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


def test_what_an_operator_decided_or_must_decide_comes_first() -> None:
    in_conflict = ENTRY.model_copy(
        update={"conflict": CredentialConflict(older=AGENT, newer=AGENT, since=NOW), "draining": True}
    )
    drains = ENTRY.model_copy(update={"draining": True})
    revoked = ACCESS.model_copy(update={"revoked_at": NOW})
    later = NOW + timedelta(hours=1)
    for access, entry, now, state in (
        (ACCESS, None, NOW, WorkerState.NEVER_SEEN),
        (ACCESS, ENTRY, NOW, WorkerState.ONLINE),
        (ACCESS, drains, NOW, WorkerState.DRAINING),
        (ACCESS, drains, later, WorkerState.OFFLINE),
        (ACCESS, in_conflict, later, WorkerState.CONFLICT),
        (revoked, in_conflict, NOW, WorkerState.REVOKED),
        (revoked, None, NOW, WorkerState.REVOKED),
    ):
        assert summary(access, access.settings, entry, now).state is state


def test_the_shortest_tolerance_of_its_jobs_is_shown() -> None:
    """That of a job whose worker does not say is not known."""
    jobs = tuple(
        JobReport(id=make_job().id, phase=JobPhase.RUNNING, offline=offline)
        for offline in (OfflinePolicy(tolerance_s=600), None, OfflinePolicy(tolerance_s=60))
    )
    assert summary(ACCESS, ACCESS.settings, ENTRY.model_copy(update={"jobs": jobs}), NOW).tolerance_s == 60
    assert summary(ACCESS, ACCESS.settings, ENTRY, NOW).tolerance_s is None


def test_a_worker_is_where_it_polled_from_last() -> None:
    assert summary(ACCESS, ACCESS.settings, None, NOW).hostname == "at enrolment"
    assert summary(ACCESS, ACCESS.settings, ENTRY, NOW).hostname == "press-4"
    nameless = AGENT.model_copy(update={"host": "", "address": ""})
    conflict = CredentialConflict(older=AGENT, newer=nameless, since=NOW)
    shown = summary(ACCESS, ACCESS.settings, ENTRY.model_copy(update={"conflict": conflict}), NOW)
    assert shown.conflict == ("press-4 (192.0.2.7)", "unnamed host (address unknown)")
