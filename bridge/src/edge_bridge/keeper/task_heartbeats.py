"""Beats for the tasks of connected and briefly lost workers, so that Airflow does not take distance for death.

For as long as the job is not given up: its queue's tolerance decides.
Through the API, with the host and process that `/run` named: it touches only a task instance that runs just there.
Several keepers may beat for one task; that is harmless.
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
from edge_bridge.keeper.watch import Withdrawals, unwanted
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

BEATS_AT_ONCE = 4
"""More only queue in the api-server."""
SHARE_OF_TIMEOUT = 3
TRIES_IN_TIMEOUT = 30
"""A beat that was refused or got no answer is tried again, but not at each look: that would only add to the trouble."""
_STOP_ANSWERS = frozenset({404, 409, 410})


@dataclass(frozen=True, slots=True)
class BeatSettings:
    """When to beat.

    Attributes:
        heartbeat_timeout: After which Airflow fails a task; `[scheduler] task_instance_heartbeat_timeout`.
    """

    heartbeat_timeout: timedelta


def is_due(
    record: JobRecord, row: TaskRow | None, *, silent_for_s: float, now: datetime, settings: BeatSettings
) -> bool:
    """Whether this job's task needs a beat.

    Also while its final state is on its way: that may take long, where the api-server or the link is away in between.
    """
    if record.state is not JobState.RUNNING or record.user_code is None or record.task is None:
        return False
    if record.accepted_state is not None:
        return False
    if row is None or row.state != "running" or row.dispatch != record.id:
        return False
    if silent_for_s > record.offline.tolerance_s:
        return False
    return row.last_heartbeat_at is None or now - row.last_heartbeat_at > settings.heartbeat_timeout / SHARE_OF_TIMEOUT


class Beats:
    """Sends what is due. Run `run()` in a task group and hand it each look at the database."""

    def __init__(
        self,
        view: ClusterView,
        dispatches: Dispatches,
        withdrawals: Withdrawals,
        api: ExecutionApi,
        settings: BeatSettings,
        *,
        metrics: KeeperMetrics,
    ) -> None:
        self._metrics = metrics
        self._view = view
        self._dispatches = dispatches
        self._withdrawals = withdrawals
        self._api = api
        # Keepers that look at the same second should not all beat at it.
        self._settings = BeatSettings(
            settings.heartbeat_timeout * random.uniform(0.8, 1)  # noqa: S311  # spreads keepers, nothing secret
        )
        self._due: asyncio.Queue[JobRecord] = asyncio.Queue()
        self._under_way: set[str] = set()
        self._paused_until: dict[str, datetime] = {}

    def take(self, records: list[JobRecord], rows: Mapping[str, TaskRow], now: datetime) -> None:
        """Queue the beats that a look at the database shows to be due; rows by job."""
        self._paused_until = {job: until for job, until in self._paused_until.items() if until > now}
        for record in records:
            if record.id in self._under_way or record.id in self._paused_until or record.holder is None:
                continue
            silent_for_s = self._view.silent_for(record)
            if is_due(record, rows.get(record.id), silent_for_s=silent_for_s, now=now, settings=self._settings):
                self._under_way.add(record.id)
                self._due.put_nowait(record)

    async def run(self) -> None:
        """Send what is due, for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(BEATS_AT_ONCE):
                group.create_task(self._send_all(), name=f"keeper-beat-{number}")

    async def _send_all(self) -> None:
        while True:
            record = await self._due.get()
            try:
                if not await self._beat(record):
                    pause = self._settings.heartbeat_timeout / TRIES_IN_TIMEOUT
                    self._paused_until[record.id] = datetime.now(UTC) + pause
            finally:
                self._under_way.discard(record.id)

    async def _beat(self, record: JobRecord) -> bool:
        """Whether Airflow took it."""
        assert record.user_code is not None  # noqa: S101  # is_due() saw it
        assert record.task is not None  # noqa: S101  # this too
        body = orjson.dumps({"hostname": record.user_code.hostname, "pid": record.user_code.pid})
        path = f"task-instances/{record.task.ti_id}/heartbeat"
        call = ExecutionCall("PUT", path, "", {"content-type": "application/json"}, body)
        try:
            answer = await self._api.call(subject_of(record), call, tries=1)
        except EdgeError as error:
            # The api-server's absence is logged where it is called.
            self._metrics.beat("failed")
            log.debug("beat_failed", job=record.id, code=error.code)
            return False
        self._metrics.beat("ok" if answer.accepted else "refused")
        if answer.accepted:
            log.debug("beat_sent", job=record.id)
        elif _says_running_elsewhere(answer):
            log.error("task_running_elsewhere", job=record.id, ti=record.task.ti_id, worker=_worker(record))
        elif answer.status in _STOP_ANSWERS:
            await self._look_again(record, record.task.ti_id)
        else:
            log.warning("beat_refused", job=record.id, status=answer.status)
        return answer.accepted

    async def _look_again(self, record: JobRecord, ti_id: str) -> None:
        """The refusal may be the job's own end: only what the database and the record say now counts."""
        try:
            row = await self._dispatches.one(ti_id)
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", error=str(error))
            return
        if (why := unwanted(record, row)) is not None:
            await self._withdrawals.withdraw(record, why)


def _says_running_elsewhere(answer: Answer) -> bool:
    if answer.status != 409:
        return False
    try:
        detail = orjson.loads(answer.body)["detail"]
        return bool(detail["reason"] == "running_elsewhere")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _worker(record: JobRecord) -> str | None:
    return None if record.holder is None else record.holder.worker
