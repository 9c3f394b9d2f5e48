"""The Task SDK's own spans, made in the fork of a task host."""

import secrets

import pytest

from support.airflow.sdk_jobs import sdk_job
from support.airflow.task_host import Site
from support.system.observed.collector import running_collector


@pytest.mark.timeout(120)
async def test_a_tasks_own_spans_hang_below_the_context_that_the_job_carries(site: Site) -> None:
    """With the variables that docs/howto/traces.md names; the job's other spans have the same parent."""
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    job = sdk_job("hello")
    job.workload["ti"]["context_carrier"] = {"traceparent": f"00-{trace}-{parent}-01"}
    with running_collector() as collector:
        site.env |= {
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        }
        async with site.agent():
            _, result = await site.run(job)
    assert result.final_state == "success"
    assert collector.of(trace)["worker.hello"].parent == parent
