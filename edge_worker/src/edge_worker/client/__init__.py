"""For Python programs that use a queue: consumers of payloads, and producers.

    async with AsyncConsumer("https://relay.example.com", state_dir="/var/lib/meters") as consumer:
        await consumer.run(handle, slots=4)

A payload is delivered **at least once**. A consumer holds a job from its start, and no other consumer gets the job
meanwhile. If the consumer is out of contact for longer than the queue tolerates, the job is granted to another one with
the next attempt number. So a handler must be able to run again: `PayloadJob.attempt` shows whether it does.

May import: `edge_schemas`, `edge_service.text_files` and every room but `doctor` and `runtime_install`; of `task_host`
only `lease` and `job_files`.
Never here: processes of jobs; Airflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_schemas.life.model import JobState, Outcome, Verdict
    from edge_schemas.producers.submissions import JobStatus
    from edge_schemas.why.for_producers import WaitAnswer
    from edge_worker.client.consumer import AsyncConsumer, Consumer
    from edge_worker.client.payload_job import PayloadJob, Reject, Retry, Stopped
    from edge_worker.client.producer import AsyncProducer, Parked, Producer
    from edge_worker.relay.call_result import NoAnswer, Refused
    from edge_worker.settings import SettingsError

_HOMES = {
    "AsyncConsumer": "edge_worker.client.consumer",
    "AsyncProducer": "edge_worker.client.producer",
    "Consumer": "edge_worker.client.consumer",
    "JobState": "edge_schemas.life.model",
    "JobStatus": "edge_schemas.producers.submissions",
    "NoAnswer": "edge_worker.relay.call_result",
    "Outcome": "edge_schemas.life.model",
    "Parked": "edge_worker.client.producer",
    "PayloadJob": "edge_worker.client.payload_job",
    "Producer": "edge_worker.client.producer",
    "Refused": "edge_worker.relay.call_result",
    "Reject": "edge_worker.client.payload_job",
    "Retry": "edge_worker.client.payload_job",
    "SettingsError": "edge_worker.settings",
    "Stopped": "edge_worker.client.payload_job",
    "Verdict": "edge_schemas.life.model",
    "WaitAnswer": "edge_schemas.why.for_producers",
}

__all__ = [
    "AsyncConsumer",
    "AsyncProducer",
    "Consumer",
    "JobState",
    "JobStatus",
    "NoAnswer",
    "Outcome",
    "Parked",
    "PayloadJob",
    "Producer",
    "Refused",
    "Reject",
    "Retry",
    "SettingsError",
    "Stopped",
    "Verdict",
    "WaitAnswer",
]


def __getattr__(name: str) -> object:
    """Imports a name at its first use: a producer needs nothing of a consumer."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
