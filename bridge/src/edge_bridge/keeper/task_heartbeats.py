"""Heartbeats for the tasks of connected and briefly lost workers, so that Airflow does not fail a task for distance.

They are sent as long as the job is not given up: the tolerance of its queue decides. They go through the API, with the
host and process that `/run` named, and so affect only a task instance that runs in exactly that process. Several
keepers may send heartbeats for one task; that is harmless.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import structlog

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, TaskRow
from edge_bridge.keeper.gate.upstream import Answer, ExecutionApi, ExecutionCall
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.tokens import subject_of
from edge_bridge.keeper.withdrawals import Withdrawals, unwanted
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

HEARTBEATS_AT_ONCE = 4
"""More would only wait in the api-server."""
SHARE_OF_TIMEOUT = 3
TRIES_IN_TIMEOUT = 30
"""A heartbeat that was rejected or got no answer is tried again, but not in each check of the database: that would only
add load to a server in trouble."""
_STOP_ANSWERS = frozenset({404, 409, 410})


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """When to send heartbeats.

    Attributes:
        timeout: After which Airflow fails a task; `[scheduler] task_instance_heartbeat_timeout`.
    """

    timeout: timedelta


def is_due(
    record: JobRecord, row: TaskRow | None, *, silent_for_s: float, now: datetime, settings: HeartbeatSettings
) -> bool:
    """Whether this job's task needs a heartbeat.

    Also while its final state is on its way: that may take long if the api-server or the link is down in between.
    """
    if record.state is not JobState.RUNNING or record.user_code is None or record.task is None:
        return False
    if record.accepted_state is not None:
        return False
    if row is None or row.state != "running" or row.dispatch != record.id:
        return False
    if silent_for_s > record.offline.tolerance_s:
        return False
    return row.last_heartbeat_at is None or now - row.last_heartbeat_at > settings.timeout / SHARE_OF_TIMEOUT


class TaskHeartbeats:
    """Sends what is due. Run `run()` in a task group and call `add_due()` after each check of the database."""

    def __init__(
        self,
        view: ClusterView,
        dispatches: Dispatches,
        withdrawals: Withdrawals,
        api: ExecutionApi,
        settings: HeartbeatSettings,
        *,
        metrics: KeeperMetrics,
    ) -> None:
        self._metrics = metrics
        self._view = view
        self._dispatches = dispatches
        self._withdrawals = withdrawals
        self._api = api
        # Keepers that check in the same second should not all send in it.
        self._settings = HeartbeatSettings(
            settings.timeout * random.uniform(0.8, 1)  # noqa: S311  # spreads keepers, nothing secret
        )
        self._due: asyncio.Queue[JobRecord] = asyncio.Queue()
        self._under_way: set[str] = set()
        self._paused_until: dict[str, datetime] = {}

    def add_due(self, records: list[JobRecord], rows: Mapping[str, TaskRow], now: datetime) -> None:
        """Queue the heartbeats that are due by a check of the database; rows by job."""
        self._paused_until = {job: until for job, until in self._paused_until.items() if until > now}
        for record in records:
            if record.id in self._under_way or record.id in self._paused_until or record.holder is None:
                continue
            silent_for_s = self._view.silent_for(record)
            if is_due(record, rows.get(record.id), silent_for_s=silent_for_s, now=now, settings=self._settings):
                self._under_way.add(record.id)
                self._due.put_nowait(record)

    async def run(self) -> None:
        """Send what is due, forever."""
        async with asyncio.TaskGroup() as group:
            for number in range(HEARTBEATS_AT_ONCE):
                group.create_task(self._send_all(), name=f"keeper-heartbeat-{number}")

    async def _send_all(self) -> None:
        while True:
            record = await self._due.get()
            try:
                if not await self._send_one(record):
                    pause = self._settings.timeout / TRIES_IN_TIMEOUT
                    self._paused_until[record.id] = datetime.now(UTC) + pause
            finally:
                self._under_way.discard(record.id)

    async def _send_one(self, record: JobRecord) -> bool:
        try:
            return await self._send(record)
        except Exception:
            # A fault of ours, or a record that no heartbeat can be made of. The other tasks need theirs.
            log.exception("job_put_aside", step="heartbeat", job=record.id)
            self._metrics.put_aside("heartbeat")
            return False

    async def _send(self, record: JobRecord) -> bool:
        """Whether Airflow accepted it."""
        assert record.user_code is not None  # noqa: S101  # checked by is_due()
        assert record.task is not None  # noqa: S101  # this too
        body = orjson.dumps({"hostname": record.user_code.hostname, "pid": record.user_code.pid})
        path = f"task-instances/{record.task.ti_id}/heartbeat"
        call = ExecutionCall("PUT", path, "", {"content-type": "application/json"}, body)
        try:
            answer = await self._api.call(subject_of(record), call, tries=1)
        except EdgeError as error:
            # The absence of the api-server is logged where it is called.
            self._metrics.heartbeat_sent("failed")
            log.debug("heartbeat_failed", job=record.id, code=error.code)
            return False
        if answer.failed:
            self._metrics.heartbeat_sent("failed")
            return False
        self._metrics.heartbeat_sent("ok" if answer.accepted else "refused")
        if answer.accepted:
            log.debug("heartbeat_sent", job=record.id)
        elif _is_running_elsewhere(answer):
            worker = None if record.holder is None else record.holder.worker
            log.error("task_running_elsewhere", job=record.id, ti=record.task.ti_id, worker=worker)
        elif answer.status in _STOP_ANSWERS:
            await self._check_again(record, record.task.ti_id)
        else:
            log.warning("heartbeat_refused", job=record.id, status=answer.status)
        return answer.accepted

    async def _check_again(self, record: JobRecord, ti_id: str) -> None:
        """The job's own end may be the cause of the refusal: only the current database row and record decide."""
        try:
            row = await self._dispatches.one(ti_id)
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", error=str(error))
            return
        if (why := unwanted(record, row)) is not None:
            await self._withdrawals.withdraw(record, why)


def _is_running_elsewhere(answer: Answer) -> bool:
    if answer.status != 409:
        return False
    try:
        detail = orjson.loads(answer.body)["detail"]
        return bool(detail["reason"] == "running_elsewhere")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
