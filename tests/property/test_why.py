"""Whatever the fleet is like, a waiting job has a cause, its text is one clean line, and what blocks most is first."""

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.admin.why import CauseCode, WhyAnswer
from edge_schemas.life.model import Holder, JobRecord, JobState, Outcome, ReleaseNote, StopRequest, Verdict, new_record
from edge_schemas.why.facts import Position, QueueFacts, RunningJob, ServingWorker, Situation
from edge_schemas.why.job import explain, needs_of
from edge_schemas.why.wording import MAX_TEXT_CHARS
from edge_schemas.why.workers import able
from edge_schemas.wire.jobs import AuxiliaryKind, BundleRef, JobKind
from edge_schemas.wire.workers import Availability, WorkerState
from support.relay.jobs import make_auxiliary_job, make_job

C = CauseCode
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OF_QUEUE = {C.QUEUE_PAUSED, C.QUEUE_LIMIT, C.KIND_REFUSED}
OF_FLEET = {
    *(C.NO_WORKER, C.ALL_FULL, C.WORKER_PAUSED, C.SITE_PAUSED, C.WORKER_UNHEALTHY, C.SITE_OFFLINE, C.WORKER_OFFLINE),
    *(C.CREDENTIAL_CONFLICT, C.VERSION_REFUSED, C.KIND_REFUSED, C.UNKNOWN),
}
OF_JOB = {
    *(C.NOT_PUBLISHED, C.HELD_BACK, C.BEHIND_OTHERS, C.TOO_FEW_SLOTS, C.NEVER_STARTED, C.SIGNATURE_REFUSED),
    *(C.STARTING, C.UNKNOWN),
}

anything = st.text(max_size=300)
moments = st.integers(-90 * 86400, 3600).map(lambda seconds: NOW + timedelta(seconds=seconds))
orders = st.builds(
    AvailabilityOrder,
    availability=st.sampled_from([Availability.PAUSED, Availability.DRAINING, Availability.STOPPED]),
    reason=anything,
    by=anything,
    since=moments,
    until=st.none() | moments.filter(lambda at: at > NOW),
)
serving = st.builds(
    ServingWorker,
    name=anything,
    site=st.sampled_from(["plant", "shop"]),
    state=st.sampled_from([state for state in WorkerState if state is not WorkerState.REVOKED]),
    order=st.none() | orders,
    order_of_site=st.booleans(),
    slots=st.integers(0, 8),
    free=st.integers(0, 8),
    last_poll_at=st.none() | moments,
    no_jobs_reason=st.none() | anything,
    airflow=st.sampled_from([None, "3.3.2", "4.0", "odd"]),
    auxiliary=st.sampled_from([(), ("callback",)]),
    kinds=st.sampled_from([("task",), ("command",), ("task", "payload")]),
    running=st.lists(st.builds(RunningJob, anything, moments), max_size=3).map(tuple),
)
desired = st.builds(
    DesiredQueue,
    order=st.none() | orders,
    kinds=st.none() | st.just((JobKind.CALLBACK,)),
    max_running=st.none() | st.integers(1, 3),
)
queues = st.builds(
    QueueFacts,
    desired=desired,
    running=st.none() | st.integers(0, 4),
    position=st.none() | st.builds(Position, st.integers(0, 20_000), st.integers(0, 5)),
    has_message=st.none() | st.booleans(),
    group_ahead=st.none() | anything,
)
situations = st.builds(
    Situation, st.lists(serving, max_size=12).map(tuple), queues, hidden=st.integers(0, 2) | st.just(0)
)
releases = st.lists(
    st.builds(
        ReleaseNote,
        worker=st.none() | st.just("w"),
        reason=anything | anything.map(lambda text: f"job_not_signed: {text}"),
        at=moments,
    ),
    max_size=5,
).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> JobRecord:
    """A record in any state."""
    job = draw(st.sampled_from([make_job(), make_auxiliary_job(kind=AuxiliaryKind.CALLBACK)]))
    record = new_record(job).model_copy(
        update={"created_at": draw(moments), "releases": draw(releases), "parked": draw(st.none() | anything)}
    )
    state = draw(st.sampled_from(list(JobState)))
    if state is JobState.WAITING:
        return record
    holder = draw(st.none() | st.builds(Holder, worker=st.just("w"), incarnation=st.just(1), started_at=moments))
    outcome = draw(st.none() | st.builds(Outcome, verdict=st.sampled_from(Verdict), reason=anything, ended_at=moments))
    stop = draw(st.none() | st.builds(StopRequest, reason=anything, at=moments))
    return record.model_copy(update={"state": state, "holder": holder, "outcome": outcome, "stop": stop})


@given(records(), situations)
def test_there_is_always_a_cause_in_one_clean_sentence(record: JobRecord, situation: Situation) -> None:
    answer = explain(record, situation, NOW)
    assert answer.causes
    for one in answer.causes:
        assert one.text
        assert len(one.text) <= MAX_TEXT_CHARS
        shown = one.text + "".join(map(str, one.facts.values()))
        assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Zl", "Zp", "Cs"}, repr(shown)
    WhyAnswer.model_validate_json(answer.model_dump_json())


@given(records().filter(lambda one: one.state is JobState.WAITING and one.parked is None), situations)
def test_what_blocks_most_comes_first(record: JobRecord, situation: Situation) -> None:
    """The queue before its workers, and the workers before the order of its jobs, unless a worker could take one."""
    answer = explain(record, situation, NOW)
    first = answer.causes[0].code
    paused = situation.queue.desired.order is not None
    if paused:
        assert first is C.QUEUE_PAUSED
    elif not able(situation.workers, needs_of(record)):
        assert first in OF_QUEUE | OF_FLEET
    elif first not in OF_QUEUE:
        assert first in OF_JOB | OF_FLEET
    if not situation.workers and not situation.hidden and not paused:
        assert C.NO_WORKER in {one.code for one in answer.causes}


@given(st.lists(serving, min_size=1, max_size=12))
def test_each_worker_that_can_not_take_the_job_is_in_one_cause(workers: list[ServingWorker]) -> None:
    named = [replace(one, name=f"w-{i}") for i, one in enumerate(workers)]
    record = new_record(make_job())
    answer = explain(record, Situation(tuple(named)), NOW)
    blocked = [name for one in answer.causes if one.code in OF_FLEET for name in one.facts.get("workers", [])]
    free = {one.name for one in able(named, needs_of(record))}
    assert sorted(blocked) == sorted({one.name for one in named} - free)


def test_a_mixed_fleet_is_explained_group_by_group() -> None:
    order = AvailabilityOrder(
        availability=Availability.PAUSED,
        reason="new press",
        by="ann",
        since=NOW,
        until=NOW + timedelta(hours=6),
    )
    workers = (
        ServingWorker("a", "plant", WorkerState.ONLINE, slots=4, last_poll_at=NOW),
        ServingWorker("b", "plant", WorkerState.ONLINE, slots=2, last_poll_at=NOW),
        ServingWorker("c", "shop", WorkerState.PAUSED, order, slots=2, free=2, last_poll_at=NOW),
    )
    job = make_job("q")
    answer = explain(new_record(job), Situation(workers), NOW)
    assert [one.text for one in answer.causes] == [
        (
            "2 of 3 workers of queue q are full (a: 4 of 4, b: 2 of 2); it starts when a slot becomes free, "
            "or add slots or workers"
        ),
        "1 of 3 workers of queue q is paused by ann until 18:00:00 UTC: new press (c)",
    ]
    assert [one.code for one in answer.causes] == [C.ALL_FULL, C.WORKER_PAUSED]


def test_long_lists_are_cut() -> None:
    workers = tuple(
        ServingWorker(f"w-{number}", "plant", WorkerState.ONLINE, slots=1, last_poll_at=NOW) for number in range(8)
    )
    [full] = explain(new_record(make_job("q")), Situation(workers), NOW).causes
    assert "w-4: 1 of 1 and 3 more)" in full.text


def test_a_refused_signature_is_a_cause_of_its_own() -> None:
    """Also of a parked job: the remedy is at the keys, and a redrive without it parks the job again."""
    worker = ServingWorker("a", "plant", WorkerState.ONLINE, slots=1, free=1, last_poll_at=NOW)
    note = ReleaseNote(worker="a", reason="job_not_signed: no key that this worker trusts has signed it", at=NOW)
    released = new_record(make_job("q")).model_copy(update={"releases": (note,)})
    first = explain(released, Situation((worker,)), NOW).causes[0]
    assert first.code is C.SIGNATURE_REFUSED
    assert "no key that this worker trusts has signed it" in first.text
    assert "signing-keys show" in first.text
    parked = released.model_copy(update={"parked": note.reason})
    codes = [one.code for one in explain(parked, Situation((worker,)), NOW).causes]
    assert codes == [C.PARKED, C.SIGNATURE_REFUSED]
    other = released.model_copy(update={"releases": (note, note.model_copy(update={"reason": "the disk is full"}))})
    assert C.SIGNATURE_REFUSED not in {one.code for one in explain(other, Situation((worker,)), NOW).causes}


def test_a_start_that_takes_long_names_the_code_that_the_worker_may_fetch() -> None:
    bundle = BundleRef(name="dags", digest="4f0c2a91b7d3" + "0" * 52, requirements="gpu.txt")
    job = make_job("q").model_copy(update={"bundle": bundle})
    holder = Holder(worker="a", incarnation=1, started_at=NOW - timedelta(minutes=5))
    record = new_record(job).model_copy(update={"state": JobState.RUNNING, "holder": holder})
    [one] = explain(record, Situation(()), NOW).causes
    assert one.code is C.STARTING
    assert "fetches version 4f0c2a91b7d3 of bundle dags and installs the packages of gpu.txt" in one.text
    assert (one.facts["digest"], one.facts["requirements"]) == (bundle.digest, "gpu.txt")
