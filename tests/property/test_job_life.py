"""The life of a job under any order of events: the very `transition()` that relay, executor and keeper run."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
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
from edge_schemas.life.transition import FAILED_STATES, RELEASES_BEFORE_PARKED, may_have_run, transition
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.relay.jobs import make_auxiliary_job, make_job

WORKERS = st.sampled_from(["north", "south", "copy"])
INCARNATIONS = st.integers(min_value=1, max_value=4)
REQUESTS = st.sampled_from(["request-1", "request-2"])
PIDS = st.integers(min_value=1, max_value=3)
FINAL_STATES = st.sampled_from(["success", "failed", "up_for_retry", "deferred", "up_for_reschedule", "skipped"])
START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class JobLife(RuleBasedStateMachine):
    """One dispatch, three workers that may say anything at any time, a keeper and an executor.

    Workers are restarted, killed and copied, come back with a job or without it, or never; the keeper gives jobs up on
    whatever it believes, the executor lets them expire, users and operators take them back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: JobRecord = new_record(make_job())
        self.now = START_OF_TIME
        self.history: list[JobRecord] = [self.record]
        self.user_code: set[tuple[str, int]] = set()
        self.accepted: list[str] = []
        self.unanswered: str | None = None
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

    @rule(worker=WORKERS, exit_code=st.sampled_from([0, 1, -9, None]), release=st.booleans())
    def finish(self, worker: str, exit_code: int | None, *, release: bool) -> None:
        """A worker's own restart, shutdown or death is told with `release`."""
        before = self.record
        if self.apply(Finish(worker, exit_code, None, self.now, release)):
            assert before.holder is not None
            assert before.holder.worker == worker
            if self.record.state is JobState.WAITING:
                assert release
                assert not may_have_run(before)

    @rule(worker=WORKERS, counted=st.booleans())
    def release(self, worker: str, *, counted: bool) -> None:
        self.apply(Release(worker, "no slot", counted, self.now))

    @rule()
    def redrive(self) -> None:
        was = self.record
        taken = self.apply(Redrive(self.now))
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
        """The holder changes only by way of nobody, and only before user code ran; its incarnation only rises."""
        for before, after in zip(self.history, self.history[1:], strict=False):
            if before.holder is None or after.holder == before.holder:
                continue
            if after.holder is None:
                assert not may_have_run(before)
            else:
                assert after.holder.worker == before.holder.worker
                assert after.holder.incarnation > before.holder.incarnation

    @invariant()
    def user_code_never_starts_twice(self) -> None:
        assert len(self.user_code) <= 1

    @invariant()
    def a_withdrawn_or_ended_job_never_starts(self) -> None:
        if self.over_while_waiting:
            assert self.record.state is JobState.ENDED
            assert self.record.holder is None

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
            assert (self.record.parked is not None) == (len(self.record.releases) >= RELEASES_BEFORE_PARKED)

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


class AuxiliaryLife(JobLife):
    """The same for something that is no task: nobody tells when its code begins, so it is never handed out again."""

    def __init__(self) -> None:
        super().__init__()
        self.record = new_record(make_auxiliary_job())
        self.history = [self.record]

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


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestAuxiliaryLife = AuxiliaryLife.TestCase
TestAuxiliaryLife.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
