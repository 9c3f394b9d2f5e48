"""Why a job has not started, or what became of it: its record and its situation become an answer."""

from dataclasses import dataclass
from datetime import datetime

from edge_schemas.admin.why import Cause, CauseCode, WhyAnswer
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.why.facts import ServingWorker, Situation
from edge_schemas.why.wording import (
    cause,
    clean,
    counted,
    full_task_text,
    listed,
    moment,
    order_text,
    short_digest,
    since_text,
    span,
)
from edge_schemas.why.workers import Needs, able, obstacles
from edge_schemas.wire.job_calls import is_signature_refusal
from edge_schemas.wire.jobs import JobKind, TaskWork

_C = CauseCode
STARTS_WITHIN_S = 60.0
"""A grant, and a start whose user code has not reported, are normal for this long."""
PUBLISHED_WITHIN_S = 10.0
"""The executor publishes a message that a slot waits for within this time."""


def explain(record: JobRecord, situation: Situation, now: datetime) -> WhyAnswer:
    """The answer for a job.

    Args:
        record: With the job, as it is stored while it has not ended: the job names what a worker must fulfil.
        situation: Needed for a waiting job only.
        now: By the clock of the caller.
    """
    waits = record.state is JobState.WAITING
    return WhyAnswer(
        job=record.id,
        task=_name(record),
        queue=record.queue,
        state=record.state,
        waits_since=record.waits_since if waits else None,
        causes=tuple(
            waiting_causes(record, queue_view(needs_of(record), situation, now), now)
            if waits
            else (_not_waiting(record, now),)
        ),
        as_of=now,
    )


def needs_of(record: JobRecord) -> Needs:
    """What a worker must fulfil to run the job."""
    work = None if record.job is None else record.job.work
    airflow = work.airflow_version if isinstance(work, TaskWork) else None
    return Needs(record.queue, airflow, None if record.kind is JobKind.TASK else record.kind.value)


def _name(record: JobRecord) -> str | None:
    if record.task is not None:
        return full_task_text(record.task)
    if record.terms is not None:
        return clean(record.terms.name)
    return None if record.auxiliary is None else f"{record.auxiliary.kind} {record.auxiliary.id}"


@dataclass(frozen=True, slots=True)
class QueueView:
    """What all waiting jobs of one queue with the same needs share; computed once for many of them.

    Attributes:
        ready: The workers that could take one now.
    """

    situation: Situation
    of_queue: tuple[Cause, ...]
    of_fleet: tuple[Cause, ...]
    ready: tuple[ServingWorker, ...]


def queue_view(needs: Needs, situation: Situation, now: datetime) -> QueueView:
    """What holds back every job with these needs."""
    return QueueView(
        situation,
        tuple(queue_causes(situation, needs, now)),
        tuple(fleet_causes(situation, needs, now)),
        able(situation.workers, needs),
    )


def waiting_causes(record: JobRecord, view: QueueView, now: datetime) -> list[Cause]:
    """The causes of a waiting job, the one that blocks most first."""
    if record.parked is not None:
        return [_parked(record), *_signature_refused(record, now)]
    if (granted := _granted_to(record, view.situation.workers)) is not None and not view.of_queue:
        return [_granted(record, granted, now)]
    of_job = [
        *_delayed(record, view.situation, now),
        *_released(record, now),
        *_order(record, view.situation, view.ready, now),
    ]
    found = [*view.of_queue, *of_job, *view.of_fleet] if view.ready else [*view.of_queue, *view.of_fleet, *of_job]
    return found or [_next(record, view.ready, view.situation, now)]


def queue_causes(situation: Situation, needs: Needs, now: datetime) -> list[Cause]:
    """What keeps all jobs of this kind in the queue, whatever its workers do."""
    desired, name = situation.queue.desired, clean(needs.queue)
    found = []
    if desired.order is not None and not desired.order.is_over(now):
        order = desired.order
        text = f"Queue {name} is {order_text(order, now)}; resume the queue to grant its jobs"
        found.append(cause(_C.QUEUE_PAUSED, text, order.since, by=order.by, reason=order.reason))
    if situation.queue.consumer_paused:
        text = f"The NATS consumer of queue {name} is paused; run 'nats consumer resume EDGE_JOBS' for it"
        found.append(cause(_C.QUEUE_PAUSED, text))
    kind = needs.kind or "task"
    if desired.kinds is not None and kind not in desired.kinds:
        text = f"Queue {name} does not accept jobs of the kind {kind}; change the queue's settings, or the task's queue"
        found.append(cause(_C.KIND_REFUSED, text, kind=kind, kinds=list(desired.kinds)))
    running = situation.queue.running
    if desired.max_running is not None and running is not None and running >= desired.max_running:
        text = (
            f"Queue {name} may run {desired.max_running:,} jobs at once and runs {running:,}; raise its limit or wait"
        )
        found.append(cause(_C.QUEUE_LIMIT, text, running=running, max_running=desired.max_running))
    return found


def fleet_causes(situation: Situation, needs: Needs, now: datetime) -> list[Cause]:
    """Why workers of the queue do not take the job; empty only if all of them could."""
    found = obstacles(situation.workers, needs, now)
    if situation.workers or situation.hidden:
        if situation.hidden:
            text = (
                f"{counted(situation.hidden, 'further worker')} of queue {clean(needs.queue)} "
                f"{'is' if situation.hidden == 1 else 'are'} at sites that you may not see"
            )
            found.append(cause(_C.UNKNOWN, text, hidden=situation.hidden))
        return found
    text = (
        f"No worker serves queue {clean(needs.queue)}; enrol one for it, add the queue to a worker, "
        "or correct the queue of the task"
    )
    return [cause(_C.NO_WORKER, text)]


def _delayed(record: JobRecord, situation: Situation, now: datetime) -> list[Cause]:
    """What the producer of the job has asked for."""
    if record.terms is None:
        return []
    found = []
    if record.not_before is not None and record.not_before > now:
        text = f"It is delayed until {moment(record.not_before, now)}, as its producer or its last consumer has asked"
        found.append(cause(_C.DELAYED, text, record.waits_since, not_before=record.not_before.isoformat()))
    if (ahead := situation.queue.group_ahead) is not None:
        group = clean(record.terms.group or "")
        text = f"It waits behind job {clean(ahead)}, an earlier one of its group {group} that has not ended"
        found.append(cause(_C.BEHIND_GROUP, text, record.waits_since, group=group, ahead=ahead))
    return found


def _parked(record: JobRecord) -> Cause:
    text = (
        f"It is parked and no worker gets it: {clean(record.parked or '')}; fix that, then redrive it with "
        f"'edge-relay dead redrive {record.id} --reason WHY'"
    )
    last = record.releases[-1].at if record.releases else None
    return cause(_C.PARKED, text, last, reason=record.parked)


def _granted_to(record: JobRecord, workers: tuple[ServingWorker, ...]) -> ServingWorker | None:
    return next((worker for worker in workers if record.id in worker.granted), None)


def _granted(record: JobRecord, worker: ServingWorker, now: datetime) -> Cause:
    """A grant that a worker has reported and not turned into a start."""
    since = worker.last_poll_at
    waited = 0.0 if since is None else (now - since).total_seconds()
    if waited < STARTS_WITHIN_S and not record.releases:
        text = f"Worker {worker.name} was granted it and is starting it now"
        return cause(_C.STARTING, text, since, worker=worker.name)
    text = (
        f"Worker {worker.name} was granted it{since_text(since, now)} and has not started it"
        f"{_times(record)}; read the log of that agent"
    )
    return cause(_C.NEVER_STARTED, text, since, worker=worker.name, releases=len(record.releases))


def _times(record: JobRecord) -> str:
    number = len(record.releases)
    return "" if not number else f", after {counted(number, 'release')}"


def _released(record: JobRecord, now: datetime) -> list[Cause]:
    if not record.releases:
        return []
    last = record.releases[-1]
    number = len(record.releases)
    if last.attempt is not None and record.terms is not None:
        text = (
            f"Attempt {last.attempt} of {record.terms.max_attempts} has ended on {clean(last.worker or 'a worker')} at "
            f"{moment(last.at, now)}: {clean(last.reason)}; the next one waits for a worker"
        )
        return [cause(_C.WAITS_AGAIN, text, last.at, attempt=last.attempt, worker=last.worker, reason=last.reason)]
    if refused := _signature_refused(record, now):
        return refused
    text = (
        f"It was granted {counted(number, 'time')} and never started; the last release was by "
        f"{clean(last.worker or 'a relay')} at {moment(last.at, now)}: {clean(last.reason)}"
    )
    return [cause(_C.NEVER_STARTED, text, last.at, releases=number, worker=last.worker, reason=last.reason)]


def _signature_refused(record: JobRecord, now: datetime) -> list[Cause]:
    """The last worker that was granted the job did not accept its signature."""
    last = record.releases[-1] if record.releases else None
    if last is None or not is_signature_refusal(last.reason):
        return []
    worker = clean(last.worker or "a worker")
    text = (
        f"Worker {worker} refused its signature at {moment(last.at, now)}: {clean(last.reason)}; compare the keys that "
        "'edge-worker doctor' shows there with 'airflow edge-relay signing-keys show'"
    )
    return [cause(_C.SIGNATURE_REFUSED, text, last.at, worker=last.worker, reason=last.reason)]


def _order(record: JobRecord, situation: Situation, ready: tuple[ServingWorker, ...], now: datetime) -> list[Cause]:
    """Its place in the queue, and whether the executor should have published it."""
    queue, position = situation.queue, situation.queue.position
    free = sum(worker.free for worker in ready)
    ahead = 0 if position is None else position.ahead
    waited = (now - record.waits_since).total_seconds()
    is_held = queue.group_ahead is not None or (record.not_before is not None and record.not_before > now)
    if is_held:
        return []
    if queue.has_message is False and free > ahead and waited >= PUBLISHED_WITHIN_S:
        who, what = ("executor", "Airflow's scheduler runs and reaches NATS")
        if record.terms is not None:
            who, what = ("relay", "a relay runs and reaches NATS, and read its log")
        text = (
            f"The {who} has not published it although {counted(free, 'slot is', 'slots are')} free; check that {what}"
        )
        return [cause(_C.NOT_PUBLISHED, text, record.waits_since, free_slots=free)]
    name = clean(record.queue)
    if position is None and queue.waiting is not None and ready and queue.waiting > free:
        text = f"{counted(queue.waiting, 'job')} of queue {name} wait for {counted(free, 'free slot')}"
        return [cause(_C.TOO_FEW_SLOTS, text, waiting=queue.waiting, free_slots=free)]
    if position is None or ahead == 0:
        return []
    weight = "priority_weight" if record.terms is None else "priority"
    weights = f", {position.heavier:,} of them with a higher {weight}" if position.heavier else ""
    before = f"{counted(ahead, 'waiting job')} of queue {name} {'comes' if ahead == 1 else 'come'} before it{weights}"
    if ready and free <= ahead:
        names = [f"{worker.name}: {worker.free}" for worker in ready]
        text = f"Too few slots are free ({listed(names)}): {before}"
        return [cause(_C.TOO_FEW_SLOTS, text, ahead=ahead, heavier=position.heavier, free_slots=free)]
    if queue.has_message is False:
        return [
            cause(
                _C.HELD_BACK,
                f"It is held back until its turn: {before}",
                ahead=ahead,
                heavier=position.heavier,
                free_slots=free,
            )
        ]
    return [
        cause(
            _C.BEHIND_OTHERS, f"It waits for its turn: {before}", ahead=ahead, heavier=position.heavier, free_slots=free
        )
    ]


def _next(record: JobRecord, ready: tuple[ServingWorker, ...], situation: Situation, now: datetime) -> Cause:
    """Nothing holds it back."""
    waited = (now - record.waits_since).total_seconds()
    names = listed([worker.name for worker in ready])
    if waited < STARTS_WITHIN_S:
        text = f"It is next, and slots are free ({names}): it should start within seconds"
        return cause(_C.STARTING, text, record.waits_since, workers=[worker.name for worker in ready])
    if situation.queue.has_message is not False:
        text = (
            f"It is offered to {names} for {span(waited)} and was never started; read the logs of these agents and of "
            "the relays"
        )
        return cause(_C.NEVER_STARTED, text, record.waits_since, workers=[worker.name for worker in ready])
    text = f"No cause is known although it has waited for {span(waited)}; read the logs of relay and executor"
    return cause(_C.UNKNOWN, text, record.waits_since)


def _not_waiting(record: JobRecord, now: datetime) -> Cause:
    holder = record.holder
    worker = "a worker" if holder is None else f"worker {holder.worker}"
    since = None if holder is None else holder.started_at
    name = None if holder is None else holder.worker
    if record.state is JobState.ENDED:
        outcome = record.outcome
        verdict = "ended" if outcome is None else outcome.verdict.value
        reason = "" if outcome is None or not outcome.reason else f": {clean(outcome.reason)}"
        at = None if outcome is None else outcome.ended_at
        when = "" if at is None else f" at {moment(at, now)}"
        by = "" if holder is None else f" on {worker}"
        text = f"The job has ended{when}{by}, {verdict}{reason}"
        return cause(_C.ENDED, text, at, verdict=verdict, worker=name)
    if record.state is JobState.STOPPING:
        stop = record.stop
        reason = "" if stop is None else f": {clean(stop.reason)}"
        text = f"It is being stopped on {worker}{reason}"
        return cause(_C.STOPS, text, None if stop is None else stop.at, worker=name)
    if record.user_code is None and record.kind is JobKind.TASK and since is not None:
        waited = (now - since).total_seconds()
        if waited < STARTS_WITHIN_S:
            text = f"It is starting on {worker}, which took it {span(waited)} ago"
            return cause(_C.STARTING, text, since, worker=name)
        return _slow_start(record, worker, now)
    terms = record.terms
    attempt = "" if terms is None else f", attempt {record.attempt} of {terms.max_attempts}"
    return cause(_C.RUNS, f"It runs on {worker}{since_text(since, now)}{attempt}", since, worker=name)


def _slow_start(record: JobRecord, worker: str, now: datetime) -> Cause:
    """A worker started the job, and its code has not reported: the fetch of a large bundle may take minutes."""
    holder = record.holder
    since = None if holder is None else holder.started_at
    name = None if holder is None else holder.worker
    begun = f"It is starting on {worker}{since_text(since, now)}, and its code has not reported yet"
    bundle = None if record.job is None else record.job.bundle
    if bundle is None:
        text = f"{begun}; read the task's log and the log of that agent"
        return cause(_C.STARTING, text, since, worker=name)
    packages = "" if bundle.requirements is None else f" and installs the packages of {clean(bundle.requirements)}"
    text = (
        f"{begun}. Before that, the worker fetches version {short_digest(bundle.digest)} of bundle "
        f"{clean(bundle.name)}{packages}, unless it has them; the task's log shows each step, 'edge-worker status' "
        "there the progress"
    )
    facts = {"bundle": bundle.name, "digest": bundle.digest, "requirements": bundle.requirements}
    return cause(_C.STARTING, text, since, worker=name, **facts)
