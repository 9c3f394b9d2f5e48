"""Every kind of document that one version writes and another one may read, with made-up but complete content.

Bodies travel between a worker and a relay of different versions. Stored documents are read by relays, keepers and
bridges of different versions at the same time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from edge_relay.identity.receipts import Receipt, open_receipt, seal
from edge_schemas.admin.access import AccessTokenEntry
from edge_schemas.gate.centre import CentreFacts, SigningKeys, WorkerFacts
from edge_schemas.life import events
from edge_schemas.life.model import JobRecord, WriteAnswer, new_record
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED, transition
from edge_schemas.producers import submissions
from edge_schemas.producers.status import job_status
from edge_schemas.signing.key_sets import KeySet, encoded_key
from edge_schemas.signing.payload import payload_of, with_signed
from edge_schemas.wire import job_calls, polls, worker_entry, worker_report, workers
from edge_schemas.wire.content import Content, SentContent
from edge_schemas.wire.errors import EdgeError, ErrorCode, Problem
from edge_schemas.wire.job_calls import LogPosition
from edge_schemas.wire.jobs import (
    AuxiliaryJob,
    AuxiliaryKind,
    AuxiliaryWork,
    CommandWork,
    Job,
    JobKind,
    JobTerms,
    OnLost,
    PayloadWork,
    Signature,
    Signed,
    TaskIdentity,
    TaskWork,
)
from edge_schemas.wire.offline import OfflinePolicy, OnSilence

MODELS: Mapping[str, type[BaseModel]] = {
    # Bodies of a worker's calls and of their answers.
    "enroll-request": workers.EnrollRequest,
    "enrollment": workers.Enrollment,
    "poll": polls.Poll,
    "poll-answer": polls.PollAnswer,
    "start-request": job_calls.StartRequest,
    "finish-request": job_calls.FinishRequest,
    "release-request": job_calls.ReleaseRequest,
    # Bodies of a producer's calls and of their answers.
    "submission": submissions.Submission,
    "submitted": submissions.Submitted,
    "batch-result": submissions.BatchResult,
    "job-status": submissions.JobStatus,
    "queue-status": submissions.QueueStatus,
    "log-position": LogPosition,
    "worker-facts": WorkerFacts,
    "signing-keys": SigningKeys,
    "problem": Problem,
    # Between keeper and relay.
    "centre-facts": CentreFacts,
    # Stored in NATS, or sent through it.
    "job": Job,
    "job-record": JobRecord,
    "worker-entry": worker_entry.WorkerEntry,
    "relay-beat": worker_entry.RelayBeat,
    "relay-demand": worker_entry.RelayDemand,
    "worker-access": workers.WorkerAccess,
    "enroll-token-entry": workers.EnrollTokenEntry,
    "access-token-entry": AccessTokenEntry,
}
"""The model of each kind. A document's name is its kind, and a point and its case where there are several."""
STORED = frozenset(
    (
        "job",
        "job-record",
        "worker-entry",
        "relay-beat",
        "relay-demand",
        "worker-access",
        "enroll-token-entry",
        "access-token-entry",
    )
)
"""Kinds that readers of an older version find next to writers of a newer one."""

RECEIPT = "receipt"
RECEIPT_KEY = bytes(range(32))
"""Receipts are no JSON of a model: their document holds the sealed text and what it says."""

_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
_HASH = "0123456789abcdef" * 4


def kind(name: str) -> str:
    """Of a document, by its name."""
    return name.partition(".")[0]


def documents() -> dict[str, BaseModel]:
    """All documents by their names, as this version writes them."""
    return {**_bodies(), **_job_records(), **_stored()}


def receipt() -> dict[str, object]:
    """A sealed receipt and what is in it."""
    made = Receipt("$JS.ACK.EDGE_JOBS.default.1.7.7.1767323045678000000.0", "default", _task_job().id, "press-17", _AT)
    return {"sealed": seal(RECEIPT_KEY, made), **_facts(made)}


def opened_receipt(document: Mapping[str, object]) -> dict[str, object]:
    """What this version reads in a recorded receipt; the same as the document, but for the seal."""
    job, worker = str(document["job"]), str(document["worker"])
    return _facts(open_receipt(RECEIPT_KEY, str(document["sealed"]), job=job, worker=worker))


def _facts(made: Receipt) -> dict[str, object]:
    return {
        "ack_subject": made.ack_subject,
        "consumer": made.queue,
        "job": made.job,
        "worker": made.worker,
        "expires_at": made.expires_at.isoformat(),
        "grant": made.grant,
    }


def _task_job() -> Job:
    task = TaskIdentity(
        ti_id="019b7c5e-0000-7000-8000-000000000001",
        dag_id="my_dag",
        task_id="group.my task",
        run_id="scheduled__2026-01-02T00:00:00+00:00",
        try_number=2,
        map_index=3,
    )
    workload = {"type": "ExecuteTask", "ti": {"id": task.ti_id, "queue": "gpu"}, "bundle_info": {"name": "dags"}}
    return Job(
        id="019b7c5e-0000-4000-8000-000000000002",
        queue="gpu",
        team="plant",
        work=TaskWork(task=task, workload=workload, core_executor="RelayExecutor", airflow_version="3.3.2"),
        offline=OfflinePolicy(tolerance_s=120, on_silence=OnSilence.CONTINUE),
        published_at=_AT,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def _signed(payload: str) -> Signed:
    """No version checks these signatures: documents are only read."""
    return Signed(payload=payload, signatures=(Signature(key=_HASH[:16], value="c2lnbmVk"),))


def _signed_job() -> Job:
    job = _task_job()
    return with_signed(job, _signed(payload_of(job)))


def _key_set() -> Signed:
    return _signed(KeySet(serial=2, keys=(encoded_key(bytes(range(32))),), made_at=_AT).model_dump_json())


def _auxiliary_job() -> Job:
    auxiliary = AuxiliaryJob(kind=AuxiliaryKind.CONNECTION_TEST, id="019b7c5e-0000-4000-8000-000000000003")
    work = AuxiliaryWork(auxiliary=auxiliary, workload={"type": "TestConnection"}, core_executor="RelayExecutor")
    return Job(id=auxiliary.id, queue="auxiliary", work=work, published_at=_AT)


def _payload_job() -> Job:
    terms = JobTerms(
        kind=JobKind.PAYLOAD,
        name="order 7",
        producer="shop",
        priority=5,
        on_lost=OnLost.REQUEUE,
        max_attempts=3,
        expires_at=_AT + timedelta(days=1),
        group="customer-1",
        labels={"customer": "c-1"},
        digest=_HASH,
    )
    return Job(
        id="019b7c5e-0000-4000-8000-000000000004",
        queue="orders",
        work=PayloadWork(payload=Content.of(b"\x00order", "application/x-order")),
        terms=terms,
        published_at=_AT,
    )


def _command() -> CommandWork:
    return CommandWork(argv=("backup", "--all"), env={"LEVEL": "1"}, cwd="/srv", timeout_s=60)


def _command_job() -> Job:
    terms = JobTerms(kind=JobKind.COMMAND, name="backup", producer="shop", digest=_HASH)
    return Job(
        id="019b7c5e-0000-4000-8000-000000000005", queue="orders", work=_command(), terms=terms, published_at=_AT
    )


def _submissions() -> dict[str, BaseModel]:
    """Of a producer, with what is answered to it."""
    job = _payload_job()
    status = job_status(_ended_payload(), site="plant-a")
    assert status is not None
    command = submissions.SentCommand.model_validate(_command().model_dump())
    payload = SentContent(content_type="application/x-order", data="AG9yZGVy")
    return {
        "submission.command": submissions.Submission(command=command),
        "submission.payload": submissions.Submission(
            payload=payload,
            key="order-7",
            name="order 7",
            priority=5,
            delay_s=60,
            ttl_s=86400,
            on_lost=OnLost.REQUEUE,
            max_attempts=3,
            group="customer-1",
            labels={"customer": "c-1"},
            offline_tolerance_s=120,
        ),
        "submitted": submissions.Submitted(job=job.id, queue="orders", is_new=True),
        "batch-result": submissions.BatchResult(
            jobs=(
                submissions.SubmissionResult(job=job.id, is_new=True),
                submissions.SubmissionResult(code="rate_limited", detail="too many jobs wait", retryable=True),
            )
        ),
        "job-status": status,
        "queue-status": submissions.QueueStatus(
            queue="orders", waiting=1, delayed=2, running=3, parked=4, oldest_wait_s=1.5, is_paused=True
        ),
    }


def _ended_payload() -> JobRecord:
    """Released once and ended in the second attempt."""
    record = transition(new_record(_payload_job()), events.Start("press-17", 2, _AT, "grant-1"))
    record = transition(record, events.Release("press-17", "busy", counted=True, at=_AT, grant="grant-1", delay_s=60))
    record = transition(record, events.Start("press-17", 2, _AT, "grant-2"))
    result = Content.of_text("done")
    return transition(record, events.Finish("press-17", 0, None, _AT, grant="grant-2", result=result))


def _agent(incarnation: int) -> worker_entry.AgentSeen:
    return worker_entry.AgentSeen(
        instance=f"machine-{incarnation}",
        incarnation=incarnation,
        seq=99,
        arrival="0af7651916cd43dd8448eb211c80319c",
        host="press-17.plant.example",
        address="192.0.2.17",
        last_poll_at=_AT,
        left=True,
    )


def _conflict() -> worker_entry.CredentialConflict:
    return worker_entry.CredentialConflict(older=_agent(1), newer=_agent(2), since=_AT)


def _reports() -> tuple[worker_report.JobReport, ...]:
    job = _task_job()
    return (
        worker_report.JobReport(id=job.id, phase=worker_report.JobPhase.RUNNING, offline=job.offline),
        worker_report.JobReport(id=_auxiliary_job().id, phase=worker_report.JobPhase.FINISHING),
    )


def _versions() -> worker_report.WorkerVersions:
    return worker_report.WorkerVersions(agent="0.1.0", python="3.12.1", airflow="3.3.2", platform="Linux-6.1-x86_64")


def _health() -> worker_report.WorkerHealth:
    return worker_report.WorkerHealth(
        cpu_busy_ratio=0.25,
        load_1m=1.5,
        memory_used_bytes=1 << 30,
        memory_total_bytes=4 << 30,
        disk_free_bytes=10 << 30,
        disk_total_bytes=20 << 30,
        link_cuts=3,
        held_calls=1,
        log_lag_bytes=4096,
        clock_skew_s=-0.25,
        proxy=worker_report.ProxyKind.HTTPS,
    )


def _bodies() -> dict[str, BaseModel]:
    job = _task_job()
    settings = workers.WorkerSettings(version=2, queues=("default", "gpu"))
    centre = CentreFacts(
        airflow_version="3.3.2",
        python_version="3.12.1",
        runtime_lock="apache-airflow==3.3.2\n",
        signing_keys=(_key_set(),),
    )
    return {
        "enroll-request": workers.EnrollRequest(protocol=1, secret_hash=_HASH, hostname="press-17", airflow="3.3.2"),
        "enrollment": workers.Enrollment(
            worker="press-17",
            site="plant-a",
            team="plant",
            settings=settings,
            airflow="3.3.2",
            signing_keys=(_key_set(),),
        ),
        "poll": polls.Poll(
            protocol=1,
            incarnation=2,
            seq=99,
            instance="machine-2",
            host="press-17.plant.example",
            superseded_by=3,
            in_conflict=True,
            slots=4,
            free=2,
            jobs=_reports(),
            draining=True,
            no_jobs_reason="its runtime is not ready",
            poll_timeout_s=30,
            settings_version=2,
            versions=_versions(),
            health=_health(),
        ),
        "poll.least": polls.Poll(
            protocol=1,
            incarnation=1,
            seq=1,
            slots=1,
            free=1,
            versions=worker_report.WorkerVersions(agent="0.1.0", python="3.11.7", platform="Linux"),
        ),
        "poll-answer": polls.PollAnswer(
            grants=(polls.Grant(job=job, receipt="c2VhbGVk", expires_at=_AT + timedelta(seconds=30)),),
            stop=(polls.StopDirective(job=job.id, reason="marked as failed", drop=True),),
            settings=settings,
            conflict=_conflict(),
            conflict_resolved=True,
            required_airflow="3.3.2",
        ),
        "start-request": job_calls.StartRequest(receipt="c2VhbGVk", incarnation=2),
        "finish-request": job_calls.FinishRequest(
            incarnation=2, receipt="c2VhbGVk", exit_code=-9, reason="killed", release=True
        ),
        "release-request": job_calls.ReleaseRequest(receipt="c2VhbGVk", reason="all slots are taken", counted=False),
        "finish-request.result": job_calls.FinishRequest(
            incarnation=2, receipt="c2VhbGVk", exit_code=0, result=SentContent(text="done", content_type="text/plain")
        ),
        "release-request.delay": job_calls.ReleaseRequest(receipt="c2VhbGVk", reason="busy", delay_s=600),
        **_submissions(),
        "log-position": LogPosition(offset=4096),
        "signing-keys": SigningKeys(sets=(_key_set(),)),
        "worker-facts": WorkerFacts(
            worker="press-17",
            site="plant-a",
            team="plant",
            queues=("default", "gpu"),
            protocols=(1,),
            relay_version="0.1.0",
            now=_AT,
            centre=centre,
        ),
        "problem": EdgeError(ErrorCode.OFFSET_MISMATCH, "the log is durable up to 13", expected_offset=13).problem(
            "request-0001"
        ),
        "centre-facts": centre,
    }


def _job_records() -> dict[str, BaseModel]:
    job = _task_job()
    waiting = new_record(job)
    started = transition(waiting, events.Start("press-17", 2, _AT, "grant-1"))
    ran = transition(started, events.ReportUserCode("press-17", "press-17.plant.example", 4711, _AT))
    begun = transition(ran, events.BeginWrite("press-17", "request-0001", _AT, before="absent"))
    finishing = transition(begun, events.BeginFinishing("press-17"))
    answer = WriteAnswer(request_id="request-0002", status=204, body="")
    accepted = transition(finishing, events.AnswerWrite("press-17", answer, "success"))
    stopping = transition(ran, events.Withdraw("marked as failed", _AT))
    parked = waiting
    for number in range(RELEASES_BEFORE_PARKED):
        grant = f"grant-{number}"
        parked = transition(parked, events.Release("press-17", "no such runtime", counted=True, at=_AT, grant=grant))
    given_up = transition(started, events.GiveUp("no contact", _AT))
    cases: dict[str, JobRecord] = {
        "waiting": waiting,
        "auxiliary": new_record(_auxiliary_job()),
        "submitted": new_record(_payload_job(), not_before=_AT + timedelta(seconds=60)),
        "submitted-ended": _ended_payload(),
        "running": begun,
        "finishing": finishing,
        "accepted": accepted,
        "stopping": stopping,
        "parked": parked,
        "waits-again": given_up,
        "ended": transition(accepted, events.Finish("press-17", 0, None, _AT, grant="grant-1")),
        "lost": transition(ran, events.GiveUp("no contact", _AT)),
    }
    return {f"job-record.{case}": record for case, record in cases.items()}


def _stored() -> dict[str, BaseModel]:
    settings = workers.WorkerSettings(version=2, queues=("default", "gpu"))
    return {
        "job.task": _task_job(),
        "job.signed": _signed_job(),
        "job.auxiliary": _auxiliary_job(),
        "job.payload": _payload_job(),
        "job.command": _command_job(),
        "worker-entry": worker_entry.WorkerEntry(
            worker="press-17",
            site="plant-a",
            team="plant",
            queues=("default", "gpu"),
            agent=_agent(2),
            predecessors=(_agent(1),),
            taken_over_at=_AT,
            conflict=_conflict(),
            relay="relay-1",
            poll_timeout_s=30,
            slots=4,
            free=2,
            draining=True,
            no_jobs_reason="its runtime is not ready",
            jobs=_reports(),
            versions=_versions(),
            health=_health(),
        ),
        "relay-beat": worker_entry.RelayBeat(relay="relay-1", serving_since=_AT, at=_AT),
        "relay-demand": worker_entry.RelayDemand(
            relay="relay-1", queues=(worker_entry.QueueDemand(consumer="gpu_2Elarge", free_slots=8),)
        ),
        "worker-access": workers.WorkerAccess(
            worker="press-17",
            secret_hash=_HASH,
            site="plant-a",
            team="plant",
            settings=settings,
            hostname="press-17",
            enrolled_at=_AT,
            revoked_at=_AT,
        ),
        "enroll-token-entry": workers.EnrollTokenEntry(
            queues=("default", "gpu"),
            site="plant-a",
            team="plant",
            uses=2,
            expires_at=_AT,
            used=(workers.EnrollmentUse(secret_hash=_HASH, worker="press-17"),),
        ),
        "access-token-entry": AccessTokenEntry(name="ops", created_at=_AT, revoked_at=_AT),
    }
