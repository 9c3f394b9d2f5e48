"""What is signed of a job, and what stays outside."""

from typing import Any

import pytest

from edge_schemas.life.model import new_record
from edge_schemas.signing.payload import PayloadUnreadable, contradiction, job_in, payload_of, restored, with_signed
from edge_schemas.wire.jobs import BundleRef, Job, Signed
from support.airflow.sdk_jobs import sdk_job
from support.relay.jobs import make_auxiliary_job, make_command


def stored(job: Job) -> Job:
    return with_signed(job, Signed(payload=payload_of(job), signatures=()))


def test_everything_that_a_worker_relies_on_is_in_the_payload() -> None:
    """A field that is added to `Job` is signed, unless it is named in the test."""
    bundle = BundleRef(name="dags", digest="0" * 64)
    job = sdk_job("t").model_copy(update={"team": "a", "traceparent": "00-1-2-01", "bundle": bundle})
    kept = stored(job)
    assert kept.signed is not None
    read = job_in(kept.signed)
    for field in Job.model_fields.keys() - {"signed", "terms", "attempt"}:
        assert getattr(read, field) == getattr(job, field), field
        assert field in kept.signed.payload, field


def test_the_workload_is_stored_once_and_a_relay_restores_it_for_older_workers() -> None:
    job = sdk_job("t")
    kept = stored(job)
    assert kept.workload == {"ti": {"priority_weight": 1}}
    assert kept.model_dump_json().count("dag_rel_path") == 1
    newer = kept.model_copy(update={"work": kept.work.model_copy(update={"airflow_version": "3.9.9"})})
    assert restored(newer).work == job.work.model_copy(update={"airflow_version": "3.9.9"})
    assert stored(make_auxiliary_job()).workload == {}
    assert restored(job) is job
    broken = kept.model_copy(update={"signed": Signed(payload="{", signatures=())})
    assert restored(broken) is broken


@pytest.mark.parametrize("payload", ["", "{}", "[]", payload_of(make_command("true")), "[" * 100_000])
def test_a_payload_that_is_no_job_of_airflow_is_refused(payload: str) -> None:
    with pytest.raises(PayloadUnreadable):
        job_in(Signed(payload=payload, signatures=()))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"queue": "another"}, "queue"),
        ({"team": "another"}, "team"),
        ({"task": None, "auxiliary": make_auxiliary_job().auxiliary}, "task instance, auxiliary job"),
        ({"terms": make_command("true").terms}, "kind"),
    ],
)
def test_a_record_must_name_what_was_signed(change: dict[str, Any], what: str) -> None:
    job = sdk_job("t")
    record = new_record(job)
    assert contradiction(record, job) is None
    assert contradiction(record.model_copy(update=change), job) == f"its record was altered: {what}"
