"""The rules of queues once operators have set something."""

from datetime import UTC, datetime, timedelta

from edge_bridge.airflow.queues import QueueRules, Queues
from edge_bridge.executor.order.desired_queues import DesiredQueues
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from edge_schemas.wire.workers import Availability

NOW = datetime.now(UTC)
CONTINUE = QueueRules(OfflinePolicy(tolerance_s=600, on_silence=OnSilence.CONTINUE), timeout_s=60)


def order(until: datetime | None = None) -> AvailabilityOrder:
    return AvailabilityOrder(availability=Availability.PAUSED, reason="moved", by="ann", since=NOW, until=until)


def test_what_operators_set_replaces_the_settings_and_the_rest_stays() -> None:
    queues = Queues(QueueRules(OfflinePolicy()), {"plant": CONTINUE})
    assert not Queues(QueueRules(OfflinePolicy())).any_times_out
    queues.set_desired("plant", DesiredQueue(tolerance_s=900, kinds=(JobKind.TASK,), max_running=2, order=order()))
    rules = queues.rules("plant")
    assert (rules.offline.tolerance_s, rules.offline.on_silence) == (900, OnSilence.CONTINUE)
    assert (rules.timeout_s, rules.max_running, rules.paused) == (60, 2, "ann has paused the queue: moved")
    assert rules.accepts(JobKind.TASK)
    assert not rules.accepts(JobKind.CALLBACK)
    queues.set_desired("plant", DesiredQueue(order=order(until=NOW - timedelta(seconds=1))))
    assert queues.rules("plant") == CONTINUE
    queues.set_desired("plant", None)
    assert queues.rules("plant") is CONTINUE


def test_a_time_out_that_an_operator_sets_is_noticed() -> None:
    queues = Queues(QueueRules(OfflinePolicy()))
    queues.set_desired("plant", DesiredQueue(timeout_s=5))
    assert queues.any_times_out


def test_an_executor_follows_the_queues_of_its_team_only() -> None:
    queues = Queues(QueueRules(OfflinePolicy()))
    changes: list[int] = []
    desired = DesiredQueues(queues, "red", lambda: changes.append(1))
    limited = DesiredQueue(max_running=1).model_dump_json().encode()
    for key in ("queue.plant", "queue.blue__plant", "worker.red__plant", "queue.red__plant__"):
        desired.apply(key, limited)
    desired.apply("queue.red__plant", b"nonsense")
    assert (queues.rules("plant").max_running, changes) == (None, [])
    desired.apply("queue.red__plant", limited)
    assert queues.rules("plant").max_running == 1
    desired.apply("queue.red__plant", None)
    assert (queues.rules("plant").max_running, len(changes)) == (None, 2)
