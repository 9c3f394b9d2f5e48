"""The current dispatch of each key, and the delivery of reports about it to Airflow, in the scheduler's thread."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, cast

import structlog

from edge_bridge.airflow.dispatch_table import Report, Verb

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.workloads.types import WorkloadKey

log = structlog.get_logger(__name__)


class CurrentDispatches:
    """Knows which job is the current one of each of Airflow's keys.

    Args:
        executor: Its `running` and its event buffer are changed here.
    """

    def __init__(self, executor: "BaseExecutor") -> None:
        self._executor = executor
        self._jobs: dict[Hashable, str] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def follow(self, key: Hashable, job: str) -> None:
        """This job is the current one of the key from here on."""
        self._executor.running.add(cast("WorkloadKey", key))
        self._jobs[key] = job

    def deliver(self, report: Report) -> bool:
        """Deliver a report to Airflow; False if it is about an older dispatch, and dropped."""
        if report.verb is not Verb.FOLLOW and self._jobs.get(report.key) != report.job:
            log.debug("stale_report_dropped", job=report.job)
            return False
        key = cast("WorkloadKey", report.key)
        match report.verb:
            case Verb.SUCCEED:
                self._executor.success(key, report.info)
            case Verb.FAIL:
                self._executor.fail(key, report.info)
            case Verb.FORGET:
                # An auxiliary job that another scheduler follows too may have an event of its start in the buffer.
                self._executor.event_buffer.pop(key, None)
                self._executor.running.discard(key)
                del self._jobs[key]
            case Verb.NOTE:
                self._executor.log_task_event(event="edge job parked", extra=report.info or "", ti_key=key)
            case Verb.RUN:
                self._executor.running_state(key)
            case Verb.FOLLOW:
                self.follow(key, report.job)
        return True
