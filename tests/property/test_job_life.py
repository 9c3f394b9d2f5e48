"""The life of a job under any order of events: the very `transition()` that relay, executor and keeper run."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_schemas.life.events import (
    AnswerWrite,
    BeginFinishing,
    BeginWrite,
    Event,
    Expire,
    Finish,
    GiveUp,
    Redrive,
    Release,
    ReportUserCode,
    Start,
    Withdraw,
)
from edge_schemas.life.model import JobRecord, JobState, Verdict, WriteAnswer, new_record
from edge_schemas.life.transition import FAILED_STATES, RELEASES_BEFORE_PARKED, may_wait_again, transition
from edge_schemas.wire.content import Content
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import JobKind, OnLost
from support.relay.jobs import command_job, make_auxiliary_job, make_job, payload_job

WORKERS = st.sampled_from(["north", "south", "copy"])
INCARNATIONS = st.integers(min_value=1, max_value=4)
REQUESTS = st.sampled_from(["request-1", "request-2"])
PIDS = st.integers(min_value=1, max_value=3)
FINAL_STATES = st.sampled_from(["success", "failed", "up_for_retry", "deferred", "up_for_reschedule", "skipped"])
START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def may_lose_holder(record: JobRecord) -> bool:
    """Whether a started job may wait again; the consumer of a payload may always release it."""
    return may_wait_again(record) or record.kind is JobKind.PAYLOAD


class Life(RuleBasedStateMachine):
    """One job, three workers that may say anything at any time, and what looks after the job.

    Workers are restarted, killed and copied, come back with a job or without it, or never; it is given up on whatever
    is believed, expires, and is taken back by users and operators.
    """

    def __init__(self, record: JobRecord) -> None:
        super().__init__()
        self.record = record
        self.now = START_OF_TIME
        self.history: list[JobRecord] = [self.record]
        self.over_while_waiting = False
        self.patience = 0

    @initialize(changes=st.integers(0, 8))
    def be_wanted_for_a_while(self, changes: int) -> None:
        """Else most jobs would be withdrawn or expire before anything has happened to them."""
        self.patience = changes

    def wanted_no_more(self) -> bool:
        return len(self.history) > self.patience

    def apply(self, event: Event) -> bool:
        """Whether the event was taken; a refusal must leave everything as it was and name a known reason."""
        self.now += timedelta(seconds=1)
        before = self.record.model_dump_json()
        try:
            self.record = transition(self.record, event)
        except EdgeError as error:
            refusal = error
        else:
            if self.record is not self.history[-1]:
                self.history.append(self.record)
            return True
        assert refusal.code in {ErrorCode.JOB_ENDED, ErrorCode.NOT_HOLDER, ErrorCode.WRONG_STATE}
        assert self.record.model_dump_json() == before
        return False

    @rule(worker=WORKERS, incarnation=INCARNATIONS)
    def start(self, worker: str, incarnation: int) -> None:
        was = self.record
        taken = self.apply(Start(worker, incarnation, self.now))
        if taken:
            assert was.state is JobState.WAITING or (was.holder is not None and was.holder.worker == worker)
            assert not self.over_while_waiting
            assert self.record.holder is not None
            assert self.record.holder.incarnation >= incarnation
        else:
            assert was.state is not JobState.WAITING or was.parked is not None

    @rule(worker=WORKERS, exit_code=st.sampled_from([0, 1, -9, None]), release=st.booleans())
    def finish(self, worker: str, exit_code: int | None, *, release: bool) -> None:
        """A worker's own restart, shutdown or death is told with `release`."""
        before = self.record
        if self.apply(Finish(worker, exit_code, None, self.now, release)):
            assert before.holder is not None
            assert before.holder.worker == worker
            if self.record.state is JobState.WAITING:
                assert release
                assert may_wait_again(before)

    @rule(worker=WORKERS, counted=st.booleans())
    def release(self, worker: str, *, counted: bool) -> None:
        self.apply(Release(worker, "no slot", counted, self.now))

    @rule()
    def redrive(self) -> None:
        was = self.record
        taken = self.apply(Redrive("fixed", self.now))
        assert taken == (was.state is JobState.WAITING)
        assert (self.record is was) == (was.parked is None)

    @precondition(wanted_no_more)
    @rule()
    def withdraw(self) -> None:
        was = self.record
        self.apply(Withdraw("marked failed", self.now))
        self.over_while_waiting |= was.state is JobState.WAITING
        if was.finishing or was.accepted_state is not None:
            assert self.record is was, "its final state was accepted or is on its way"

    @precondition(wanted_no_more)
    @rule()
    def expire(self) -> None:
        """Its queue lets no job wait so long; of a job that was taken that is no business of the executor's."""
        was = self.record
        self.apply(Expire("waited too long", self.now))
        assert (self.record is was) == (was.state is not JobState.WAITING)
        self.over_while_waiting |= was.state is JobState.WAITING

    @rule()
    def give_up_the_silent(self) -> None:
        self.apply(GiveUp("silent for too long", self.now))

    @rule(incarnation=INCARNATIONS)
    def give_up_the_lacked(self, incarnation: int) -> None:
        """The keeper's picture may be old: an incarnation that has the job itself never loses it by this."""
        was = self.record
        taken = self.apply(GiveUp("came back without it", self.now, lacking_incarnation=incarnation))
        if taken and was.holder is not None and was.holder.incarnation >= incarnation:
            assert self.record is was

    @rule()
    def repeat_is_harmless(self) -> None:
        """The holder's own start, asked again, changes nothing."""
        if self.record.state is JobState.RUNNING and self.record.holder is not None:
            holder = self.record.holder
            again = transition(self.record, Start(holder.worker, holder.incarnation, self.now))
            assert again is self.record

    @invariant()
    def one_holder(self) -> None:
        """The holder changes only by way of nobody, and only if the job may wait again; its incarnation only rises."""
        for before, after in zip(self.history, self.history[1:], strict=False):
            if before.holder is None or after.holder == before.holder:
                continue
            if after.holder is None:
                assert may_lose_holder(before)
            else:
                assert after.holder.worker == before.holder.worker
                assert after.holder.incarnation > before.holder.incarnation

    @invariant()
    def a_withdrawn_or_ended_job_never_starts(self) -> None:
        if self.over_while_waiting:
            assert self.record.state is JobState.ENDED
            assert self.record.holder is None

    @invariant()
    def ended_stays_ended(self) -> None:
        ended = [r for r in self.history if r.state is JobState.ENDED]
        assert len(ended) <= 1
        if ended:
            assert self.record is ended[0]
            assert self.record.job is None
            assert self.record.outcome is not None

    @invariant()
    def nothing_is_lost(self) -> None:
        """Until it has ended, the whole job is there to be handed out or explained."""
        if self.record.state is not JobState.ENDED:
            assert self.record.job is not None
        if self.record.state is JobState.WAITING:
            assert self.record.holder is None
            assert (self.record.parked is not None) == self.is_used_up()

    def is_used_up(self) -> bool:
        """Whether the job has failed too often to be offered again."""
        return len(self.record.releases) >= RELEASES_BEFORE_PARKED

    @invariant()
    def each_wait_counts_for_itself(self) -> None:
        """From when a hold or the parking ended, by which a queue's time-out counts, and from no other moment."""
        for before, after in zip(self.history, self.history[1:], strict=False):
            if after.state is JobState.WAITING and after.parked is None:
                begins_anew = before.state is not JobState.WAITING or before.parked is not None
                assert (after.waits_since != before.waits_since) == begins_anew

    @invariant()
    def survives_the_wire(self) -> None:
        assert JobRecord.model_validate_json(self.record.model_dump_json(exclude_none=True)) == self.record


class JobLife(Life):
    """The life of a task: the gate reports what its user code sends to Airflow."""

    def __init__(self, record: JobRecord | None = None) -> None:
        super().__init__(record or new_record(make_job()))
        self.user_code: set[tuple[str, int]] = set()
        self.accepted: list[str] = []
        self.unanswered: str | None = None

    @rule(worker=WORKERS, pid=PIDS)
    def report_user_code(self, worker: str, pid: int) -> None:
        if self.apply(ReportUserCode(worker, worker, pid, self.now)):
            self.user_code.add((worker, pid))

    @rule(worker=WORKERS, request=REQUESTS)
    def begin_write(self, worker: str, request: str) -> None:
        """As in the gate, before it forwards a write that Airflow answers differently the second time."""
        was = self.record
        if self.apply(BeginWrite(worker, request, self.now)):
            assert was.holder is not None
            assert was.holder.worker == worker
            assert (self.record is was) == (self.unanswered == request), "only a repeat changes nothing"
            self.unanswered = request

    @rule(worker=WORKERS)
    def begin_finishing(self, worker: str) -> None:
        self.apply(BeginFinishing(worker))

    @rule(worker=WORKERS, state=FINAL_STATES, taken=st.booleans())
    def final_state_answered(self, worker: str, state: str, *, taken: bool) -> None:
        """As in the gate: only a write that was announced is forwarded, and its answer is remembered."""
        if not self.apply(BeginFinishing(worker)):
            return
        answer = WriteAnswer(request_id="request-1", status=204 if taken else 409, body="")
        if self.apply(AnswerWrite(worker, answer, state if taken else None)):
            self.unanswered = None
            if taken:
                self.accepted.append(state)

    @invariant()
    def user_code_never_starts_twice(self) -> None:
        assert len(self.user_code) <= 1

    @invariant()
    def never_succeeded_without_an_accepted_state(self) -> None:
        if self.record.auxiliary is not None:
            return
        outcome = self.record.outcome
        if outcome is not None and outcome.verdict is Verdict.SUCCEEDED:
            assert outcome.accepted_state is not None
            assert outcome.accepted_state in self.accepted
            assert outcome.accepted_state not in FAILED_STATES

    @invariant()
    def an_accepted_state_decides(self) -> None:
        assert len(self.accepted) <= 1
        if self.accepted:
            assert self.record.state is not JobState.WAITING, "what Airflow took as ended is not handed out again"
        if self.accepted and self.record.outcome is not None:
            expected = Verdict.FAILED if self.accepted[0] in FAILED_STATES else Verdict.SUCCEEDED
            assert self.record.outcome.verdict is expected

    @invariant()
    def an_unanswered_write_is_known_while_the_job_is_held(self) -> None:
        """From the moment before it is sent until its answer: a repeat of it must not be sent blindly."""
        if self.record.state not in {JobState.RUNNING, JobState.STOPPING}:
            self.unanswered = None
        found = self.record.open_write
        assert (found.request_id if found else None) == self.unanswered


class AuxiliaryLife(JobLife):
    """The same for something that is no task: nobody tells when its code begins, so it is never handed out again."""

    def __init__(self) -> None:
        super().__init__(new_record(make_auxiliary_job()))

    @invariant()
    def never_handed_out_again(self) -> None:
        states = [record.state for record in self.history]
        if JobState.RUNNING in states:
            assert JobState.WAITING not in states[states.index(JobState.RUNNING) :]

    @invariant()
    def succeeds_by_its_exit_status_only(self) -> None:
        outcome = self.record.outcome
        if outcome is not None and outcome.verdict is Verdict.SUCCEEDED:
            assert outcome.exit_code == 0
            assert outcome.accepted_state is None


class SubmittedLife(Life):
    """A payload or a command: its attempts are counted, and its terms decide what a lost worker means."""

    def __init__(self) -> None:
        super().__init__(new_record(payload_job()))
        self.starts = 0

    @initialize(
        is_payload=st.booleans(),
        on_lost=st.sampled_from(OnLost),
        most=st.integers(1, 3),
        delay_s=st.sampled_from([None, 5]),
    )
    def submit(self, *, is_payload: bool, on_lost: OnLost, most: int, delay_s: int | None) -> None:
        """What the producer asks for."""
        make = payload_job if is_payload else command_job
        not_before = None if delay_s is None else self.now + timedelta(seconds=delay_s)
        self.record = new_record(make(on_lost=on_lost, max_attempts=most), not_before=not_before)
        self.history = [self.record]

    @property
    def most(self) -> int:
        assert self.record.terms is not None
        return self.record.terms.max_attempts

    @rule(worker=WORKERS, delay_s=st.sampled_from([None, 0.0, 60.0]))
    def release_later(self, worker: str, delay_s: float | None) -> None:
        """The consumer of a payload that it has started wants it to be granted later, perhaps to another one."""
        was = self.record
        if not self.apply(Release(worker, "later", counted=True, at=self.now, delay_s=delay_s)) or self.record is was:
            return
        if was.holder is not None:
            assert (was.kind, was.holder.worker, was.state) == (JobKind.PAYLOAD, worker, JobState.RUNNING)
            at = self.record.releases[-1].at
            assert self.record.not_before == (None if delay_s is None else at + timedelta(seconds=delay_s))

    @rule(worker=WORKERS, text=st.sampled_from(["one", "two"]))
    def answer(self, worker: str, text: str) -> None:
        """The end with a result, which a later report must not replace."""
        was = self.record
        result = Content.of_text(text)
        if self.apply(Finish(worker, 0, None, self.now, result=result)) and self.record is not was:
            assert self.record.outcome is not None
            assert self.record.outcome.result == result

    @invariant()
    def no_attempt_is_lost_or_made_up(self) -> None:
        """Each start is one attempt; a redrive begins to count again."""
        starts = 0
        for before, after in pairwise(self.history):
            starts += before.state is JobState.WAITING and after.state is JobState.RUNNING
            starts = 0 if before.parked is not None and after.parked is None and after.outcome is None else starts
            assert after.attempt == starts
        assert self.record.attempt <= self.most

    @invariant()
    def attempts_are_used_up_before_it_is_parked(self) -> None:
        """A dead letter: by its attempts, or by workers that released it unstarted."""
        if self.record.parked is not None and self.record.attempt < self.most:
            assert sum(note.attempt is None for note in self.record.releases) >= RELEASES_BEFORE_PARKED

    @invariant()
    def what_must_not_run_twice_has_one_holder(self) -> None:
        assert self.record.terms is not None
        if self.record.kind is JobKind.COMMAND and self.record.terms.on_lost is OnLost.FAIL:
            states = [record.state for record in self.history]
            assert states == sorted(states, key=list(JobState).index)

    @invariant()
    def a_delay_is_over_at_the_start(self) -> None:
        if self.record.state is not JobState.WAITING:
            assert self.record.not_before is None

    @invariant()
    def its_terms_never_change(self) -> None:
        assert self.record.terms == self.history[0].terms

    def is_used_up(self) -> bool:
        if not self.record.releases:
            return False
        if self.record.releases[-1].attempt is not None:
            return self.record.releases[-1].attempt >= self.most
        return sum(note.attempt is None for note in self.record.releases) >= RELEASES_BEFORE_PARKED


TestJobLife = JobLife.TestCase
TestJobLife.settings = hypothesis.settings(max_examples=60, stateful_step_count=40)

TestAuxiliaryLife = AuxiliaryLife.TestCase
TestAuxiliaryLife.settings = hypothesis.settings(max_examples=30, stateful_step_count=30)

TestSubmittedLife = SubmittedLife.TestCase
TestSubmittedLife.settings = hypothesis.settings(max_examples=50, stateful_step_count=40)


class JobLifeForLong(JobLife):
    """The same, with many examples."""


TestJobLifeForLong = pytest.mark.soak(pytest.mark.timeout(600)(JobLifeForLong.TestCase))
TestJobLifeForLong.settings = hypothesis.settings(max_examples=1000, stateful_step_count=40)


class AuxiliaryLifeForLong(AuxiliaryLife):
    """The same, with many examples."""


TestAuxiliaryLifeForLong = pytest.mark.soak(pytest.mark.timeout(600)(AuxiliaryLifeForLong.TestCase))
TestAuxiliaryLifeForLong.settings = hypothesis.settings(max_examples=1000, stateful_step_count=30)


class SubmittedLifeForLong(SubmittedLife):
    """The same, with many examples."""


TestSubmittedLifeForLong = pytest.mark.soak(pytest.mark.timeout(600)(SubmittedLifeForLong.TestCase))
TestSubmittedLifeForLong.settings = hypothesis.settings(max_examples=1000, stateful_step_count=40)
