"""What keeps a worker that enrolled from running jobs, and what to do."""

from collections.abc import Iterator, Mapping

from edge_relay.fleet.workers.index import WorkerView
from edge_relay.fleet.workers.problems import NO_RUNTIME, reason_without_runtime
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.workers import WorkerState

Queue = tuple[str | None, str]
"""Team and name."""


def what_is_missing(
    view: WorkerView,
    entry: WorkerEntry | None,
    centre_airflow: str | None,
    paused: Mapping[Queue, bool],
    consumers: frozenset[Queue],
) -> tuple[str, ...]:
    """In the order in which to fix it; empty for a worker that could run a job, or runs one.

    Args:
        view: The worker.
        entry: Its last poll in full.
        centre_airflow: Airflow's version at the centre, if it is known.
        paused: Which of its queues are paused.
        consumers: Queues in which there was ever a job.
    """
    if entry is not None and entry.jobs:
        return ()
    return tuple(_missing(view, entry, centre_airflow, paused, consumers))


def _missing(
    view: WorkerView,
    entry: WorkerEntry | None,
    centre_airflow: str | None,
    paused: Mapping[Queue, bool],
    consumers: frozenset[Queue],
) -> Iterator[str]:
    if view.state is WorkerState.REVOKED:
        yield "its credential is revoked: enrol the machine again with a new token"
        return
    if entry is None:
        yield "it has never polled: start its agent with 'edge-worker run'; 'edge-worker doctor' shows what fails"
        return
    if view.state is WorkerState.OFFLINE:
        yield "it is silent: check that its agent runs; 'edge-worker doctor' on it tries each step to the relay"
        return
    if view.state is WorkerState.CONFLICT:
        yield "two agents use its credential, and the newer one gets no jobs: decide which one is the worker"
    if entry.versions.airflow is None:
        yield NO_RUNTIME
    mismatch = runtime_mismatch(entry.versions.airflow, centre_airflow)
    if mismatch is not None:
        yield mismatch
    reason = reason_without_runtime(entry)
    if reason is not None:
        yield f"it accepts no jobs: {reason}"
    if view.order is not None:
        order = view.order.order
        yield f"it is {order.availability} by {order.by}: {order.reason}"
    elif entry.draining:
        yield "its agent drains: it exits when its jobs have ended, and accepts no others"
    if entry.slots == 0:
        yield "it has no slots: set them to 1 or more"
    yield from _queues(view, paused, consumers)


def _queues(view: WorkerView, paused: Mapping[Queue, bool], consumers: frozenset[Queue]) -> Iterator[str]:
    keys = [(view.access.team, queue) for queue in view.settings.queues]
    for key in keys:
        if paused.get(key):
            yield f"its queue {key[1]} is paused"
    if not any(key in consumers for key in keys):
        names = ", ".join(view.settings.queues)
        yield f"no job was ever sent to its queues ({names}): give a task one of them as its `queue`"
