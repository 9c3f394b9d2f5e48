"""What the fake API answers: the contract's models, made of a fleet."""

from collections import Counter

from edge_relay.workers.enroll_command import EnrollCommand
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.rows import (
    Attention,
    JobDetail,
    JobMoment,
    NextStep,
    Overview,
    SiteState,
    WorkerDetail,
)
from edge_schemas.admin.why import Cause, CauseCode, WhyAnswer
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import BundleRef
from edge_schemas.wire.workers import WorkerState
from support.dashboard.fleet import Fleet, now

ENROLL = EnrollCommand(
    "https://relay.example.com:8443", "-----BEGIN CERTIFICATE-----\nMIIBkTCCATegAwIBAgIU\n-----END CERTIFICATE-----"
)


def overview(fleet: Fleet) -> Overview:
    """The overview."""
    sites = fleet.sites()
    queues = list(fleet.queues.values())
    oldest = [row.oldest_at for row in queues if row.oldest_at]
    return Overview(
        workers=dict(Counter(row.state for row in fleet.workers.values())),
        sites=dict(Counter(row.state for row in sites)),
        slots=sum(row.slots or 0 for row in fleet.workers.values()),
        running=sum(row.running or 0 for row in fleet.workers.values()),
        waiting=sum(row.waiting for row in queues),
        held_back=sum(row.held_back for row in queues),
        dead=sum(1 for row in fleet.jobs.values() if row.parked),
        oldest_at=min(oldest, default=None),
        in_per_minute=_sums([row.in_per_minute for row in queues]),
        out_per_minute=_sums([row.out_per_minute for row in queues]),
        attention=tuple(_attention(fleet)),
        next_steps=() if fleet.workers else _next_steps(),
        as_of=now(),
    )


def _sums(series: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(values) for values in zip(*series, strict=True))


def _attention(fleet: Fleet) -> list[Attention]:
    items = [
        Attention(
            code="site-offline",
            severity="critical",
            text=f"{row.site} is offline: its {row.workers} workers vanished together, so its uplink is lost",
            since=row.since,
            view=f"workers?site={row.site}&state=offline",
        )
        for row in fleet.sites()
        if row.state is SiteState.OFFLINE
    ]
    for row in fleet.workers.values():
        if row.state is WorkerState.CONFLICT:
            text = f"{row.worker}: two agents use one credential; decide which one is the worker"
            view = f"workers/{row.worker}"
            items.append(Attention(code="credential-conflict", severity="critical", text=text, view=view))
        if row.state is WorkerState.UNHEALTHY:
            text = f"{row.worker} takes no jobs: {row.problems[0]}"
            view = f"workers/{row.worker}"
            since = row.state_since
            items.append(Attention(code="worker-unhealthy", severity="warning", text=text, view=view, since=since))
    if dead := [row for row in fleet.jobs.values() if row.parked]:
        text = f"{len(dead)} jobs are parked: redrive or purge them"
        items.append(Attention(code="dead-letters", severity="warning", text=text, view="dead"))
    return items


def _next_steps() -> tuple[NextStep, ...]:
    return (
        NextStep(
            code="create-token",
            text="Create an enrolment token: it lets a machine enrol as a worker of a site.",
            command="edge-relay enroll-token create --site SITE --queues default",
            view="tokens",
        ),
        NextStep(
            code="enrol-worker",
            text="On the worker's machine, enrol; the command asks for the token.",
            command=ENROLL.text(),
        ),
        NextStep(code="run-task", text="Give a task of a DAG a queue that the worker serves, and trigger the DAG."),
    )


def worker_detail(fleet: Fleet, name: str) -> WorkerDetail:
    """One worker."""
    row = fleet.workers[name]
    jobs = fleet.jobs_of(name)
    missing = fleet.missing.get(name, ())
    history = tuple(e for e in fleet.audit if e.target_kind is TargetKind.WORKER and e.target == name)
    return WorkerDetail(row=row, jobs=jobs, history=history[:50], missing=missing, as_of=now())


def job_detail(fleet: Fleet, name: str) -> JobDetail:
    """One job."""
    row = fleet.jobs[name]
    moments = [JobMoment(at=row.created_at, what="dispatched by Airflow")]
    if row.started_at and row.worker:
        moments.append(JobMoment(at=row.started_at, what="started by", worker=row.worker))
    if row.ended_at:
        moments.append(JobMoment(at=row.ended_at, what=f"ended: {row.verdict}"))
    record = JobRecord(id=row.job, queue=row.queue, state=row.state, created_at=row.created_at)
    bundle = BundleRef(name="dags", digest="4f0c2a91b7d3" + "0" * 52, requirements="gpu.txt") if row.task_id else None
    return JobDetail(row=row, record=record, timeline=tuple(moments), bundle=bundle, as_of=now())


def why(fleet: Fleet, name: str) -> WhyAnswer:
    """Why a job waits."""
    row = fleet.jobs[name]
    causes: tuple[Cause, ...]
    if row.state is JobState.ENDED:
        causes = (Cause(code=CauseCode.ENDED, text=f"The job has ended: {row.verdict}.", since=row.ended_at),)
    elif row.parked:
        causes = (Cause(code=CauseCode.PARKED, text=f"The job is parked: {row.parked}. Redrive it or purge it."),)
    elif row.state is JobState.RUNNING:
        causes = (Cause(code=CauseCode.RUNS, text=f"The job runs on {row.worker}.", since=row.started_at),)
    else:
        able = [worker for worker in fleet.workers.values() if row.queue in worker.queues]
        full = f"All {len(able)} workers that serve {row.queue} are full; the next slot decides by priority_weight."
        causes = (
            Cause(code=CauseCode.ALL_FULL, text=full, since=row.waits_since),
            Cause(code=CauseCode.BEHIND_OTHERS, text="12 jobs of the queue are before it."),
        )
    return WhyAnswer(job=row.job, task=row.task, queue=row.queue, state=row.state, causes=causes, as_of=now())
